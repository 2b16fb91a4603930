from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from prlm_cli.core.records import Generation
from prlm_cli.metrics import METRICS
from prlm_cli.metrics.rouge import rouge

ORACLE = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
WORDS = st.lists(
    st.sampled_from(["fix", "Fix", "net/ixgbe:", "memory", "İstanbul", "naïve", "日本", "v2", "-"]), max_size=12
)


def oracle(answer, target):
    scores = ORACLE.score(target, answer)
    return tuple(scores[name].fmeasure for name in ("rouge1", "rouge2", "rougeL"))


def test_rouge_of_hand_worked_titles():
    # 3 of 4 words shared, 2 of 3 pairs, and in order all 3.
    assert rouge("net: fix memory leak", "net: fix memory barrier") == pytest.approx((3 / 4, 2 / 3, 3 / 4))
    # 2 shared of 2 and 4 words: precision 1, recall 1/2.
    assert rouge("fix leak", "fix the memory leak") == pytest.approx((2 / 3, 0.0, 2 / 3))


def test_rouge_l_counts_words_in_order_only():
    scores = rouge("leak memory fix", "fix memory leak")

    assert (scores.rouge1, scores.rouge_l) == pytest.approx((1.0, 1 / 3))


def test_rouge_of_no_answer_is_zero():
    assert rouge(None, "a title") == (0.0, 0.0, 0.0)


@given(st.text(max_size=60), st.text(max_size=60))
def test_rouge_equals_the_reference_on_any_text(answer, target):
    assert rouge(answer, target) == pytest.approx(oracle(answer, target), abs=1e-9)


@given(WORDS, WORDS)
def test_rouge_equals_the_reference_on_words(answer, target):
    answer, target = " ".join(answer), " ".join(target)

    assert rouge(answer, target) == pytest.approx(oracle(answer, target), abs=1e-9)


def test_rouge_equals_the_reference_on_real_pairs(shared_data):
    lines = (shared_data / "commits" / "queries.test.jsonl").read_bytes().splitlines()
    queries = [msgspec.json.decode(line) for line in lines]

    for query, other in pairwise(queries):
        for answer in (query["text"], query["text"][:60], other["target"]):
            assert rouge(answer, query["target"]) == pytest.approx(oracle(answer, query["target"]), abs=1e-9)


@pytest.mark.parametrize("name, at", [("rouge1", 0), ("rouge2", 1), ("rougeL", 2)])
def test_rouge_metrics_are_the_parts_of_rouge(name, at):
    generation = Generation(
        query_id="q1", user_id="u1", text="t", target=" net: fix a leak ", profile=[], retriever="bm25",
        completion="c", reasoning=None, answer="net: fix the leak", policy="p", seed=0,
    )  # fmt: skip

    assert METRICS[name](generation) == rouge("net: fix the leak", "net: fix a leak")[at]
    assert METRICS[name](msgspec.structs.replace(generation, answer=None)) == 0.0
