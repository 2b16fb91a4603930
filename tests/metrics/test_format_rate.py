import pytest

from prlm_cli.core.records import Generation
from prlm_cli.metrics.format_rate import format_rate


@pytest.mark.parametrize(
    "answer, reasoning, expected",
    [
        ("a title", None, 1.0),
        ("a title", "because", 1.0),
        ("a title", " \n", 0.0),
        (None, None, 0.0),
        (None, "so", 0.0),
    ],
    ids=["direct", "reasoned", "empty-thought", "no-answer", "thought-only"],
)
def test_format_rate_wants_an_answer_and_no_empty_thought(answer, reasoning, expected):
    generation = Generation(
        query_id="q1", user_id="u1", text="t", profile=[], retriever="bm25",
        completion="c", reasoning=reasoning, answer=answer, policy="p", seed=0,
    )  # fmt: skip

    assert format_rate(generation) == expected
