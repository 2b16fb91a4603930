import pytest

from prlm_cli.core.records import Generation
from prlm_cli.metrics.extract_fail import extract_fail


@pytest.mark.parametrize("answer, expected", [("a title", 0.0), (None, 1.0)], ids=["answer", "none"])
def test_extract_fail_counts_unread_answers(answer, expected):
    generation = Generation(
        query_id="q1", user_id="u1", text="t", profile=[], retriever="bm25",
        completion="c", reasoning=None, answer=answer, policy="p", seed=0,
    )  # fmt: skip

    assert extract_fail(generation) == expected
