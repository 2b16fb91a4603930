import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import Generation, ProfileDocument
from prlm_cli.core.settings import EvalSettings
from prlm_cli.pipeline.evaluate import CHUNK, evaluate, read_generations, score_generations

SETTINGS = EvalSettings(metrics=["rougeL", "exact_match", "copy_rate"], bootstrap=200)
BASE = Generation(
    query_id="q1", user_id="u1", text="a text", target="net: fix a leak", profile=[], retriever="bm25",
    completion="c", reasoning=None, answer="net: fix a leak", policy="trained", seed=0,
)  # fmt: skip


def generations(*rows):
    """Generations from (query_id, user_id, answer)."""
    return [msgspec.structs.replace(BASE, query_id=q, user_id=u, answer=answer) for q, u, answer in rows]


def test_evaluate_takes_the_mean_of_queries_and_of_users():
    rows = [("q1", "u1", "net: fix a leak"), ("q2", "u1", "net: fix a leak"), ("q3", "u1", None), ("q4", "u2", None)]

    result = evaluate(generations(*rows), SETTINGS)
    exact_match = result.metrics["exact_match"]

    assert (result.n, result.users, result.policies, result.retrievers) == (4, 2, ["trained"], ["bm25"])
    assert (exact_match.mean, exact_match.n, exact_match.users) == (0.5, 4, 2)
    assert exact_match.user_mean == pytest.approx((2 / 3 + 0) / 2)
    assert exact_match.low <= exact_match.mean <= exact_match.high


def test_evaluate_without_any_target_has_no_reference_metrics():
    result = evaluate([msgspec.structs.replace(BASE, target=None)], EvalSettings())

    assert {name for name, summary in result.metrics.items() if summary is None} == {
        "rouge1", "rouge2", "rougeL", "exact_match", "copy_rate",
    }  # fmt: skip
    assert result.metrics["format_rate"].mean == 1.0


def test_evaluate_leaves_out_the_generations_a_metric_does_not_apply_to():
    untargeted = msgspec.structs.replace(BASE, query_id="q2", user_id="u2", target=None)

    result = evaluate([BASE, untargeted], SETTINGS)

    assert (result.n, result.metrics["rougeL"].n, result.metrics["rougeL"].users) == (2, 1, 1)
    assert result.metrics["rougeL"].high == math.inf


def test_evaluate_names_every_policy_and_retriever_it_saw():
    other = msgspec.structs.replace(BASE, policy="none", retriever="recency")

    result = evaluate([BASE, other, BASE], SETTINGS)

    assert (result.policies, result.retrievers) == (["none", "trained"], ["bm25", "recency"])


def test_evaluate_reads_a_stream_once_and_keeps_no_texts():
    result = evaluate(iter([BASE]), SETTINGS)

    assert [msgspec.to_builtins(record) for record in result.scores.records()] == [
        {"query_id": "q1", "user_id": "u1", "rougeL": 1.0, "exact_match": 1.0, "copy_rate": None}
    ]


def test_evaluate_scores_the_titles_that_were_shown():
    shown = [ProfileDocument(doc_id="d1", text="a text", title="net: fix a leak")]

    result = evaluate([msgspec.structs.replace(BASE, profile=shown)], SETTINGS)

    assert result.metrics["copy_rate"].mean == 1.0


@given(st.permutations([("q1", "u1", "fix"), ("q2", "u1", None), ("q3", "u2", "net: fix"), ("q4", "u3", "a leak")]))
def test_evaluate_does_not_depend_on_the_order(rows):
    assert evaluate(generations(*rows), SETTINGS).metrics == evaluate(generations(*sorted(rows)), SETTINGS).metrics


def test_evaluate_repeats_itself_with_the_same_seed():
    rows = generations(("q1", "u1", "fix"), ("q2", "u2", "net: fix"), ("q3", "u3", "a leak"), ("q4", "u4", "x"))

    assert evaluate(rows, SETTINGS, seed=1).metrics == evaluate(rows, SETTINGS, seed=1).metrics


def test_evaluate_of_nothing_is_an_error():
    with pytest.raises(DataError, match="no generations"):
        evaluate([], SETTINGS)


@pytest.mark.parametrize(
    "metrics, message",
    [(["rougel"], "no metric 'rougel'; did you mean rougeL"), ([], "no metric is named; known: rouge1")],
    ids=["unknown", "none"],
)
def test_evaluate_checks_its_metrics_before_it_reads(metrics, message):
    def unread():
        raise AssertionError("read before the metrics were checked")
        yield

    with pytest.raises(SettingsError, match=message):
        evaluate(unread(), EvalSettings(metrics=metrics))


def test_evaluation_as_json_holds_no_scores_of_single_queries():
    result = evaluate([BASE], SETTINGS).as_dict()

    assert list(result) == ["n", "users", "policies", "retrievers", "metrics"]
    assert result["metrics"]["copy_rate"] is None
    assert list(result["metrics"]["rougeL"]) == ["mean", "low", "high", "n", "users", "user_mean"]


def test_scores_count_a_metric_that_is_named_twice_once():
    scores = score_generations([BASE], ["rougeL", "rougeL"])

    assert scores["rougeL"] == [1.0]


def test_read_generations_gives_back_what_was_written(tmp_path):
    rows = generations(("q1", "u1", "fix"), ("q2", "u1", None))
    jsonl.write(tmp_path / "generations.jsonl", rows)

    assert list(read_generations(tmp_path / "generations.jsonl")) == rows


def test_read_generations_says_where_an_answer_is_missing(tmp_path, write_jsonl):
    path = write_jsonl([{"query_id": "q1", "user_id": "u1", "text": "t", "profile": [], "retriever": "bm25"}])

    with pytest.raises(DataError, match=r"data.jsonl:1: no field 'answer'; pipe it through `prlm generate -`"):
        list(read_generations(path))


def many(count):
    draw = random.Random(0)
    words = ["net:", "fix", "a", "leak", "memory"]
    return [
        msgspec.structs.replace(
            BASE, query_id=f"q{n}", user_id=f"u{n % 7}", answer=" ".join(draw.choices(words, k=draw.randint(1, 8)))
        )
        for n in range(count)
    ]


def test_a_metric_of_the_whole_set_is_no_mean_of_its_queries():
    rows = many(40)
    result = evaluate(rows, EvalSettings(metrics=["bleu", "chrf"], bootstrap=200))
    answers, targets = [row.answer for row in rows], [row.target for row in rows]

    bleu, chrf = result.metrics["bleu"], result.metrics["chrf"]
    assert bleu.mean == pytest.approx(BLEU().corpus_score(answers, [targets]).score)
    assert chrf.mean == pytest.approx(CHRF().corpus_score(answers, [targets]).score)
    assert bleu.low < bleu.mean < bleu.high
    assert bleu.mean != pytest.approx(sum(result.scores["bleu"]) / 40)


def test_scores_of_a_metric_of_the_whole_set_are_those_of_the_queries_alone():
    rows = many(10)
    scores = score_generations(rows, ["chrf", "rmse"])

    assert scores["chrf"] == pytest.approx([CHRF().corpus_score([r.answer], [[r.target]]).score for r in rows])
    assert scores["rmse"] == [None] * 10


def test_scores_are_the_same_from_any_number_of_processes():
    rows, metrics = many(2 * CHUNK + 10), ["rougeL", "copy_rate", "bleu"]
    alone, spread = (score_generations(rows, metrics, processes=processes) for processes in (1, 2))

    assert msgspec.to_builtins(list(alone.records())) == msgspec.to_builtins(list(spread.records()))
    assert (alone.user_ids, alone.seeds, alone.policies) == (spread.user_ids, spread.seeds, spread.policies)
