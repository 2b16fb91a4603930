from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import ProfileDocument, Retrieved
from prlm_cli.engines import Completion, in_order
from prlm_cli.pipeline import completion_cache as module
from prlm_cli.pipeline.completion_cache import CompletionCache, caches_in_use, completion_cache
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.owned_lines import Owner
from prlm_cli.pipeline.policies import load_policy, with_prompt
from prlm_cli.pipeline.warm_start import warm_start
from tests.pipeline.small import Notes, asked, indexed, small


class Engine:
    """Writes what depends on the prompt, the key and the batch: a stand-in for the last digits of a model's scores."""

    def __init__(self, seed=0):
        self.decoding = {"seed": seed}
        self.computed = 0

    def complete(self, prompts, keys):
        self.computed += len(prompts)
        batch = f"{len(prompts)} {max(map(len, prompts))}"
        for n, (ids, key) in enumerate(zip(prompts, keys, strict=True)):
            yield {n: Completion(f"{ids} {key} {batch} {self.decoding['seed']}\n\x00é", len(ids), len(ids) % 2 == 0)}


def _query(n):
    profile = [ProfileDocument(doc_id=f"d{n}", text="secret", rank=1)]
    return Retrieved(query_id=f"q{n}", user_id=f"u{n}", text="secret", profile=profile, retriever="bm25")


_PROMPTS = st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=5), min_size=1, max_size=20)


def _run(path, prompts, size, *, window=8, engine=None, windows=None):
    """The completions of the first windows, or of all, with a cache; and how many the engine computed."""
    engine = engine or Engine()
    found = []
    with CompletionCache(path, "policy") as cache:
        for start in range(0, len(prompts), window)[:windows]:
            part = range(start, min(start + window, len(prompts)))
            found += in_order(cache.complete(engine, [_query(n) for n in part], [prompts[n] for n in part], size))
    return found, engine.computed


@given(_PROMPTS, st.integers(1, 5), st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), max_size=4))
def test_killed_any_number_of_times_it_gives_and_keeps_what_an_unbroken_run_does(prompts, size, kills):
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder) / "whole.jsonl", Path(folder) / "broken.jsonl"
        expected, everything = _run(whole, prompts, size)
        assert everything == len(prompts)

        for windows, share in kills:
            _run(broken, prompts, size, windows=windows)
            data = broken.read_bytes()
            broken.write_bytes(data[: round(len(data) * share)])
        kept = broken.read_bytes().count(b"\n") if kills else 0
        found, computed = _run(broken, prompts, size)

        assert found == expected
        assert broken.read_bytes() == whole.read_bytes()
        assert computed < len(prompts) - kept + size  # of no more than one batch a part was known
        assert _run(broken, prompts, size) == (expected, 0)


@given(_PROMPTS, st.integers(1, 5), st.integers(1, 5))
def test_what_was_computed_in_other_batches_counts_however_often_it_is_broken_off(prompts, first, second):
    """A batch that is known in part is computed as a whole, and what was known of it stays as it was."""
    with tempfile.TemporaryDirectory() as folder:
        unbroken, broken = Path(folder) / "unbroken.jsonl", Path(folder) / "broken.jsonl"
        known, _ = _run(unbroken, prompts, first, windows=1)
        broken.write_bytes(unbroken.read_bytes())

        found, _ = _run(unbroken, prompts, second)
        _run(broken, prompts, second, windows=2)
        again, _ = _run(broken, prompts, second)

        assert found == again
        assert found[: len(known)] == known


def test_seed_query_and_policy_are_part_of_what_a_completion_is_known_by(tmp_path):
    _run(tmp_path / "c.jsonl", [[1], [1], [2]], 3)

    assert _run(tmp_path / "c.jsonl", [[1], [1], [2]], 3, engine=Engine(seed=1))[1] == 3
    assert _run(tmp_path / "c.jsonl", [[1], [1], [2], [2]], 1)[1] == 1
    with CompletionCache(tmp_path / "c.jsonl", "another") as cache:
        list(cache.complete(engine := Engine(), [_query(0)], [[1]], 3))
    assert engine.computed == 1


def test_a_line_says_whose_it_is_and_holds_no_text_but_the_completion(tmp_path):
    _run(tmp_path / "c.jsonl", [[1, 2]], 3)
    line = (tmp_path / "c.jsonl").read_text()

    assert line.startswith('{"user_id":"u0","key":"')
    assert '"query_id":"q0","profile":[{"doc_id":"d0"}],"completion":"[1, 2] q0' in line
    assert "secret" not in line


def test_a_line_that_came_of_a_card_goes_with_any_document_of_its_author(tmp_path):
    plain = _query(0)
    with CompletionCache(tmp_path / "cache.jsonl", "policy") as cache:
        list(cache.complete(Engine(), [plain, structs.replace(plain, card="private habit")], [[1], [2]], 1))
    lines = (tmp_path / "cache.jsonl").read_bytes().splitlines()

    assert [Owner("u0", "another").owns(line) for line in lines] == [False, True]
    assert not any(b"private" in line for line in lines)


def test_a_line_that_is_damaged_is_computed_again(tmp_path):
    expected, _ = _run(tmp_path / "c.jsonl", [[1], [2], [3]], 1)
    lines = (tmp_path / "c.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "c.jsonl").write_bytes(lines[0] + b'{"user_id": "u1", \xff\n' + lines[2])

    assert _run(tmp_path / "c.jsonl", [[1], [2], [3]], 1) == (expected, 1)
    assert _run(tmp_path / "c.jsonl", [[1], [2], [3]], 1) == (expected, 0)


def test_what_cannot_be_kept_is_a_storage_error_that_names_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)

    with pytest.raises(StorageError, match=r"c\.jsonl: No space left on device; free some space"):
        _run(tmp_path / "c.jsonl", [[1]], 1)


@pytest.fixture
def policy(tiny_model):
    return load_policy(with_prompt(small(tiny_model), reasoning="off"), reporter=Notes())


def test_with_a_cache_all_is_written_that_is_written_without(tiny_model, workspace, policy):
    config = small(tiny_model, "generation.batch_size=2", "generation.temperature=0.7")
    with workspace.open_store() as store:
        queries = asked(store, config)
    plain = list(generate(queries, policy, config))

    for _ in range(2):
        with completion_cache(workspace, policy, Notes()) as cache:
            assert list(generate(queries, policy, config, cache=cache)) == plain


def test_a_cache_that_another_process_has_in_use_is_done_without_and_that_is_said(tmp_path, policy, monkeypatch):
    monkeypatch.setattr("prlm_cli.core.workspace._PATIENCE", 0.01)
    monkeypatch.setattr("prlm_cli.core.workspace._LOCK_TIMEOUT", 0.02)
    workspace, reporter = indexed(tmp_path), Notes()

    with completion_cache(workspace, policy, reporter) as cache:
        assert cache is not None
        assert caches_in_use(workspace) == [f"cache/completions-{policy.fingerprint()}.jsonl"]
        with completion_cache(workspace, policy, reporter) as second:
            assert second is None
    assert caches_in_use(workspace) == []
    assert reporter.notes[-1].endswith("going on without a cache of completions")


def test_policies_of_other_weights_have_caches_of_their_own(tiny_model, workspace, policy, queries):
    config = with_prompt(small(tiny_model), reasoning="off")
    run = warm_start(workspace, queries, config, "answers", Notes())
    loaded = [load_policy(config, reporter=Notes()), load_policy(config, run=run, reporter=Notes())]
    quantised = load_policy(small(tiny_model, "model.qlora=true", "prompt.reasoning=off"), reporter=Notes())

    fingerprints = [each.fingerprint() for each in (policy, *loaded, quantised)]

    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3


def test_weights_that_are_being_trained_have_no_cache(tiny_model, workspace):
    trained = load_policy(with_prompt(small(tiny_model), reasoning="off"), trainable=True, reporter=Notes())

    with pytest.raises(AssertionError, match="weights that change"):
        trained.fingerprint()
