import msgspec
import pytest

from prlm_cli.metrics.length import length, reasoning_length
from tests.metrics.test_metrics import BASE


@pytest.mark.parametrize(
    "answer, expected", [("net: fix  a leak", 4.0), ("", 0.0), (None, 0.0)], ids=["words", "empty", "none"]
)
def test_length_counts_words(answer, expected):
    assert length(msgspec.structs.replace(BASE, answer=answer)) == expected


@pytest.mark.parametrize("reasoning, expected", [("so it  is\n", 3.0), ("", 0.0), (None, None)])
def test_reasoning_length_counts_words_where_the_policy_reasoned(reasoning, expected):
    assert reasoning_length(msgspec.structs.replace(BASE, reasoning=reasoning)) == expected
