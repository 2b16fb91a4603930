from __future__ import annotations

import msgspec
import pytest

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.recognise import recognise
from tests.conftest import contents

_WROTE = {"ada": "Grammars with attention", "ben": "Phonemes under noise", "cem": "Corpora at scale"}


def _generation(user_id, answer, **fields):
    made = {"text": "t", "profile": [], "retriever": "none", "completion": "c", "reasoning": None, "policy": "p"}
    return Generation(
        **({"query_id": f"{user_id} {answer}", "user_id": user_id, "answer": answer, "seed": 0} | made | fields)
    )


def _authors(workspace, generations):
    return [generation.author for generation in recognise(workspace, generations)]


def test_each_answer_is_surest_with_the_user_who_writes_so(workspace):
    generations = [_generation(user_id, answer) for user_id in _WROTE for answer in _WROTE.values()]

    found = _authors(workspace, generations)

    for n, user_id in enumerate(_WROTE):
        row = found[3 * n : 3 * n + 3]
        assert max(row) == row[list(_WROTE).index(user_id)] > 0.5


def test_without_an_answer_it_is_nobodys_and_without_a_history_it_does_not_apply(workspace):
    generations = [_generation("ada", None), _generation("ada", " "), _generation("nobody", "Grammars")]

    assert _authors(workspace, generations) == [0.0, 0.0, None]


def test_only_titles_older_than_the_query_are_learnt_from(workspace):
    early, late = (_generation("ada", "Grammars", date=date) for date in ("2023-03-20", "2023-10-01"))

    first, second = _authors(workspace, [early, late])

    assert first is None  # two titles are too few
    assert second > 0.5


def test_generations_are_passed_on_in_order_with_nothing_else_changed(workspace):
    generations = [_generation(user_id, answer, reward=0.5) for answer in _WROTE.values() for user_id in _WROTE]

    found = list(recognise(workspace, iter(generations)))

    assert [msgspec.structs.replace(generation, author=msgspec.UNSET) for generation in found] == generations
    assert found == list(recognise(workspace, generations))
    assert found[::-1] == list(recognise(workspace, generations[::-1]))


def test_nothing_is_stored(workspace):
    before = contents(workspace.folder)

    list(recognise(workspace, [_generation("ada", "Grammars")]))

    assert contents(workspace.folder) == before


def test_without_an_index_it_says_so(tmp_path):
    with pytest.raises(DataError, match="no index"):
        list(recognise(Workspace(tmp_path / "none"), [_generation("ada", "Grammars")]))


def test_the_command_adds_a_field_that_eval_reads(prlm, workspace, tmp_path):
    path = tmp_path / "generations.jsonl"
    jsonl.write(path, [_generation("ada", "Grammars with attention"), _generation("nobody", "Grammars")])

    scored = prlm("score", path, "--author", "-w", workspace.folder)
    result = prlm("eval", "-", "--metrics", "author", "--json", input=scored.stdout)

    assert (scored.exit_code, result.exit_code) == (0, 0)
    (known, unknown) = scored.records
    assert (known["author"] > 0.5, unknown["author"]) == (True, None)
    assert '"n":1' in result.stdout.replace(" ", "")


def test_author_and_a_reward_model_do_not_go_together(prlm, workspace):
    result = prlm("score", "-", "--author", "--reward-model", "mine", "-w", workspace.folder, input="")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "prlm: --reward-model given with --author; leave one of the two out\n"
