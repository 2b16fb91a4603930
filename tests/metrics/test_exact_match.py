import pytest

from prlm_cli.core.records import Generation
from prlm_cli.metrics.exact_match import exact_match


def generation(answer, target):
    return Generation(
        query_id="q1", user_id="u1", text="t", target=target, profile=[], retriever="bm25",
        completion="c", reasoning=None, answer=answer, policy="p", seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "answer, target, expected",
    [
        ("Fix a leak", "Fix a leak", 1.0),
        ("FIX A LEAK", "fix a leak", 1.0),
        ("STRASSE", "straße", 1.0),
        ("  fix \t a\nleak ", "fix a leak", 1.0),
        ('"fix a leak"', "fix a leak", 1.0),
        ("fix a leak", "\u201c 'fix a leak' \u201d", 1.0),
        ("fix 'a' leak", "fix a leak", 0.0),
        ("the users'", "the users", 0.0),
        ("fix a leak.", "fix a leak", 0.0),
        ('"', "'", 0.0),
        (None, "fix a leak", 0.0),
        ("fix a leak", None, None),
    ],
    ids=[
        "same", "case", "sharp-s", "space", "quotes", "nested-quotes", "inner-quotes", "apostrophe", "full-stop",
        "quote-only", "no-answer", "no-target",
    ],
)  # fmt: skip
def test_exact_match_passes_over_case_space_and_outer_quotes(answer, target, expected):
    assert exact_match(generation(answer, target)) == expected
