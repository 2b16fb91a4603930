"""Fixtures of all tests: a quiet environment, the command line in this process, small corpora and small models."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from prlm_cli import ui
from prlm_cli.core import network
from prlm_cli.core.errors import PrlmError

os.environ["HF_HUB_OFFLINE"] = "1"  # before any model library is imported: it is read only then

for _name, _examples in {"ci": 100, "dev": 200, "night": 20_000}.items():
    settings.register_profile(
        _name,
        max_examples=_examples,
        deadline=None,
        derandomize=_name == "ci",
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the files of tests/golden anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Holds a text against a file of tests/golden; with --update-golden, writes that file."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no tests/golden/{name}; pytest --update-golden writes it"
        assert text == path.read_text(encoding="utf-8")

    return check


def contents(folder: Path) -> dict[str, str]:
    """Each file below a folder, with a hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PRLM_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """For tiny models a second thread only costs, and much where the machine is busy."""
    if "tiny_model" not in request.fixturenames:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Result(NamedTuple):
    """What a command line gave."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON lines on stdout."""
        return [json.loads(line) for line in self.stdout.splitlines()]


class _Untouched(io.BytesIO):
    """A standard input that nobody gave: reading it would hang a job without a terminal."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("standard input was read although no - was given")

    read1 = readinto = readinto1 = readline = read  # type: ignore[assignment]


@pytest.fixture
def prlm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Runs `prlm` with some arguments in this process; `input` is what comes on its standard input."""

    def run(*args: object, input: str | bytes | None = None) -> Result:
        from prlm_cli.cli import main

        given = input.encode() if isinstance(input, str) else input
        stdin = io.TextIOWrapper(_Untouched() if given is None else io.BytesIO(given), encoding="utf-8")
        stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        at_sigterm = signal.getsignal(signal.SIGTERM)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["prlm", *map(str, args)])
            for name, stream in {"stdin": stdin, "stdout": stdout, "stderr": stderr}.items():
                patch.setattr(sys, name, stream)
            try:
                main()
                code: Any = "main() did not exit"
            except SystemExit as stop:
                code = stop.code or 0
            finally:
                signal.signal(signal.SIGTERM, at_sigterm)
                _reset()
        return Result(code, *(stream.buffer.getvalue().decode() for stream in (stdout, stderr)))  # type: ignore[attr-defined]

    yield run
    _reset()


def _reset() -> None:
    ui.Output.quiet = ui.Output.verbose = False
    network.refuse_network(False)
    os.environ["HF_HUB_OFFLINE"] = "1"


_SUBJECTS = {
    "ada": "parsing grammars trees constituents",
    "ben": "speech recognition acoustic phonemes",
    "cem": "translation alignment bilingual corpora",
}
_HOW = [
    "with attention",
    "for low resources",
    "under noise",
    "at scale",
    "from scratch",
    "by hand",
    "in context",
    "again",
]


def tiny_corpus() -> list[dict[str, Any]]:
    """Three users with eight documents and four queries each (two train, one dev, one test), a month apart."""
    records: list[dict[str, Any]] = []
    for user_id, words in _SUBJECTS.items():
        topics = words.split()
        for month, how in enumerate(_HOW, start=1):
            topic = topics[month % len(topics)]
            records.append(
                {
                    "user_id": user_id,
                    "doc_id": f"d{month}",
                    "text": f"We study {topic} {how} and report what {topics[0]} needs.",
                    "title": f"{topic.capitalize()} {how}",
                    "date": f"2023-{month:02d}-15",
                }
            )
        for month, split in enumerate(["train", "train", "dev", "test"], start=9):
            topic = topics[month % len(topics)]
            records.append(
                {
                    "query_id": f"{user_id}-q{month}",
                    "user_id": user_id,
                    "text": f"We look once more at {topic}, number {month} of a series.",
                    "target": f"{topic.capitalize()} once more",
                    "date": f"2023-{month:02d}-15",
                    "split": split,
                }
            )
    return records


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Writes records to a JSONL file of the test's folder and returns its path."""

    def write(records: Iterable[Mapping[str, Any]], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


@pytest.fixture
def workspace(tmp_path: Path, write_jsonl: Callable[..., Path]) -> Path:
    """A workspace folder whose index holds `tiny_corpus`."""
    from prlm_cli.core.workspace import Workspace
    from prlm_cli.pipeline.index import index

    folder = tmp_path / "workspace"
    index(Workspace(folder), [write_jsonl(tiny_corpus(), "tiny_corpus.jsonl")])
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the shared corpora, which lies beside the checkout on some machines only."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("NOT RUN: the shared corpora are not on this machine")
    return folder


_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer Llama whose tokens are bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={character: n for n, character in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        **ends,
    )
    folder = tmp_path_factory.mktemp("tiny-model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The folder of the embedded model; its tests are marked `model`."""
    from prlm_cli.core.settings import EMBEDDED_MODEL
    from prlm_cli.models.loading import resolve_model

    try:
        return resolve_model(EMBEDDED_MODEL)
    except PrlmError as error:
        pytest.skip(f"NOT RUN: the embedded model cannot be had here: {error}")
