import pytest

from prlm_cli.core.records import Generation, ProfileDocument, Usage
from prlm_cli.metrics.copy_rate import copy_rate


def generation(answer, *titles, shown=None):
    usage = None if shown is None else Usage(prompt_tokens=9, completion_tokens=9, records=shown)
    profile = [ProfileDocument(doc_id=str(n), text="text", title=title) for n, title in enumerate(titles)]
    return Generation(
        query_id="q1", user_id="u1", text="t", profile=profile, retriever="bm25",
        completion="c", reasoning=None, answer=answer, policy="p", seed=0, usage=usage,
    )  # fmt: skip


@pytest.mark.parametrize(
    "answer, titles, expected",
    [
        ("Fix a memory leak", ["net: fix a memory leak today"], 1.0),
        ("fix a memory leak in net", ["fix a memory leak", "unrelated"], 1 / 3),
        ("fix a memory leak", ["fix a", "memory leak"], 0.0),
        ("Memory leak!", ["a memory leak"], 1.0),
        ("leak memory", ["a memory leak"], 0.0),
        ("fix a memory leak", ["a memory leak"], 0.0),
        ("...", ["a memory leak"], 0.0),
        (None, ["a memory leak"], 0.0),
        ("fix a leak", [None], 0.0),
        ("fix a leak", [], None),
    ],
    ids=[
        "all", "one-of-three", "across-titles", "short", "short-other-order", "longer-than-title", "no-words",
        "no-answer", "untitled", "no-profile",
    ],
)  # fmt: skip
def test_copy_rate_is_the_share_of_copied_runs(answer, titles, expected):
    score = copy_rate(generation(answer, *titles))

    assert score == (expected if expected is None else pytest.approx(expected))


def test_copy_rate_looks_at_the_records_that_fitted_into_the_prompt():
    assert copy_rate(generation("fix a leak", "other words", "fix a leak", shown=1)) == 0.0
    assert copy_rate(generation("fix a leak", "other words", "fix a leak", shown=2)) == 1.0
    assert copy_rate(generation("fix a leak", "fix a leak", shown=0)) is None
