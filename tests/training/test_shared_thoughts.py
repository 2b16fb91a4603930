from __future__ import annotations

import pytest

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.models.loading import load_tokenizer
from prlm_cli.models.tokenization import TokenizerCodec
from prlm_cli.tasks import TASKS
from prlm_cli.training import shared_thoughts
from prlm_cli.training.shared_thoughts import SharedThoughts
from tests.training.tiny import asked

_THOUGHTS = ["Style: 7 words.", "Plan: parsers.", "Style: 7 words.", "Plan: trees.", "Plan: trees.", ""]
_QUERIES = [asked(n) for n in (0, 0, 1, 1, 1, 2)]


@pytest.fixture(scope="module")
def figures(tiny_model):
    def of(completions, queries=_QUERIES, *, reasoning=True):
        codec = TokenizerCodec(load_tokenizer(tiny_model))
        builder = PromptBuilder(TASKS["titles"], "completion", reasoning, 300, codec)
        return SharedThoughts(builder)(completions=completions, queries=queries)

    return of


def test_a_thought_counts_that_another_query_got_as_well(figures):
    completions = [f"{thought}\n</think>\nTitle: {n}" for n, thought in enumerate(_THOUGHTS)]

    assert figures(completions) == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]


def test_the_queries_of_other_processes_count_too(figures, monkeypatch):
    theirs = [("Plan: parsers.", "of another process")]
    monkeypatch.setattr(shared_thoughts, "joined", lambda own: ([*own, *theirs], 0))

    assert figures([f"{thought}\n</think>\nTitle: a" for thought in _THOUGHTS])[1] == 1.0


def test_without_reasoning_there_is_nothing_to_count(figures):
    assert figures([" a title"] * 6, reasoning=False) == [None] * 6
