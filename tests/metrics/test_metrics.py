"""What holds for every metric; the table is METRICS, so a new metric is tested at once."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Generation, ProfileDocument
from prlm_cli.metrics import METRICS, direction, target_of

BASE = Generation(
    query_id="q1", user_id="u1", text="a text", target="net: fix a leak", profile=[], retriever="bm25",
    completion="c", reasoning=None, answer="net: fix a leak", policy="p", seed=0,
)  # fmt: skip
REFERENCE_METRICS = ["rouge1", "rouge2", "rougeL", "rougeLsum", "exact_match"]
NEEDS_DATA = {"meteor", "bertscore"}  # of WordNet; RoBERTa-large
HIGHEST = {
    "length": math.inf,
    "reasoning_length": math.inf,
    "bleu": 100.0,
    "chrf": 100.0,
    "mae": math.inf,
    "rmse": math.inf,
}
TASKS = st.sampled_from([{}, {"task": "LaMP_1"}, {"task": "LaMP_2"}, {"task": "LaMP_3"}, {"task": 4}])
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(["fix", "net:", "a", "leak"]), max_size=8).map(" ".join)
DOCUMENTS = st.builds(ProfileDocument, doc_id=st.just("d"), text=TEXTS, title=st.none() | TEXTS)
GENERATIONS = st.builds(
    lambda **fields: msgspec.structs.replace(BASE, **fields),
    target=st.none() | TEXTS,
    answer=st.none() | TEXTS,
    reasoning=st.none() | TEXTS,
    meta=TASKS,
    profile=st.lists(DOCUMENTS, max_size=3),
)


@pytest.mark.parametrize("name", [name for name in METRICS if name not in NEEDS_DATA])
@given(generation=GENERATIONS)
def test_metric_is_in_its_range_or_does_not_apply(name, generation):
    score = METRICS[name](generation)

    assert score is None or (isinstance(score, float) and score >= 0.0)
    assert score is None or score <= HIGHEST.get(name, 1.0) + 1e-9


@pytest.mark.parametrize("name", REFERENCE_METRICS)
@given(words=st.lists(st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True), min_size=2, max_size=8))
def test_reference_metric_is_one_on_identical_text(name, words):
    text = " ".join(words)

    assert METRICS[name](msgspec.structs.replace(BASE, answer=text, target=text)) == 1.0


@pytest.mark.parametrize("target", [None, "", " \n"], ids=["none", "empty", "blank"])
@pytest.mark.parametrize("name", REFERENCE_METRICS)
def test_reference_metric_does_not_apply_without_a_target(name, target):
    assert METRICS[name](msgspec.structs.replace(BASE, target=target)) is None


@pytest.mark.parametrize("name", list(METRICS))
def test_metric_says_its_direction(name):
    assert direction(name) in (-1, 0, 1)
    assert "better" in (METRICS[name].__doc__ or "")


def test_direction_follows_the_metric():
    assert [direction(name) for name in ("rougeL", "extract_fail", "length")] == [1, -1, 0]


def test_target_of_strips_outer_white_space():
    assert target_of(msgspec.structs.replace(BASE, target=" a title\n")) == "a title"


def test_unknown_metric_is_named_with_the_nearest():
    with pytest.raises(SettingsError, match=r"no metric 'rougel'; did you mean rougeL\?"):
        METRICS["rougel"]
