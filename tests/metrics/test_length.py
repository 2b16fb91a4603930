import pytest

from prlm_cli.core.records import Generation
from prlm_cli.metrics.length import length


@pytest.mark.parametrize(
    "answer, expected", [("net: fix  a leak", 4.0), ("", 0.0), (None, 0.0)], ids=["words", "empty", "none"]
)
def test_length_counts_words(answer, expected):
    generation = Generation(
        query_id="q1", user_id="u1", text="t", profile=[], retriever="bm25",
        completion="c", reasoning=None, answer=answer, policy="p", seed=0,
    )  # fmt: skip

    assert length(generation) == expected
