import json
import random

import msgspec
import pytest

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation, Retrieved, convert, widen
from prlm_cli.pipeline.evaluate import evaluate
from prlm_cli.pipeline.leaderboard import Submission
from tests.metrics.generations import answered

LAMP = resolve(preset="lamp").eval
METRICS_OF = {
    "LaMP_1": ["accuracy", "f1_citation"],
    "LaMP_2": ["accuracy", "f1_tag"],
    "LaMP_3": ["mae", "rmse"],
    "LaMP_4": ["rouge1", "rougeL"],
    "LaMP-7": ["rouge1", "rougeL"],
}


def numbered(*generations):
    return [msgspec.structs.replace(g, query_id=f"q{n}", user_id=f"u{n}") for n, g in enumerate(generations)]


@pytest.mark.parametrize(("task", "metrics"), METRICS_OF.items())
def test_leaderboard_metrics_are_those_of_the_task(task, metrics):
    result = evaluate(numbered(answered("4", "5", task), answered("[1]", "[1]", task)), LAMP)

    assert list(result.metrics) == metrics


def test_leaderboard_numbers_of_a_rating_task():
    rows = [("5", "5"), ("3", "4"), ("no idea", "2")]  # errors 0, 1 and 3, the farther end
    result = evaluate(numbered(*(answered(*row, "LaMP_3") for row in rows)), LAMP)

    assert result.metrics["mae"].mean == pytest.approx(4 / 3)
    assert result.metrics["rmse"].mean == pytest.approx((10 / 3) ** 0.5)
    assert result.metrics["rmse"].user_mean == pytest.approx(4 / 3)  # of one query, the root of its square
    assert result.metrics["rmse"].low <= result.metrics["rmse"].mean <= result.metrics["rmse"].high


def test_leaderboard_refuses_what_is_of_no_task_or_of_two():
    with pytest.raises(DataError, match=r"query 'q0' is of no task of LaMP; its meta\.task must be"):
        evaluate(numbered(answered("a", "b")), LAMP)
    with pytest.raises(DataError, match="query 'q1' is of another task than LaMP_4"):
        evaluate(numbered(answered("a", "b", "LaMP_4"), answered("a", "b", "LaMP_5")), LAMP)
    with pytest.raises(DataError, match="no generations"):
        evaluate([], LAMP)


def test_submission_refuses_a_second_answer_and_an_existing_file(tmp_path):
    generation = answered("a", "b", "LaMP_4")
    with pytest.raises(DataError, match="query 'q1' is answered twice"):
        list(Submission(tmp_path).recorded([generation, generation]))
    (tmp_path / "LaMP_4.json").write_text("")
    with pytest.raises(DataError, match=r"LaMP_4\.json exists; use --force"):
        next(Submission(tmp_path).recorded([generation]))
    assert list(Submission(tmp_path, force=True).recorded([generation])) == [generation]


def official(golds, predictions):
    """What LaMP's scorer says of two files of a title task, after its checks: the same task, and the same ids."""
    from rouge_score.rouge_scorer import RougeScorer

    assert golds["task"] == predictions["task"]
    wanted, given = ({row["id"]: row["output"] for row in file["golds"]} for file in (golds, predictions))
    assert wanted.keys() == given.keys() and len(predictions["golds"]) == len(given)
    scorer = RougeScorer(["rouge1", "rougeL"])
    scores = [scorer.score(wanted[i].strip(), given[i].strip()) for i in wanted]
    return {name: sum(score[name].fmeasure for score in scores) / len(scores) for name in ("rouge1", "rougeL")}


@pytest.mark.parametrize("task", ["LaMP_4", "LaMP_5"])
def test_lamp_goes_from_its_files_to_a_submission_that_its_scorer_reads(prlm, shared_data, tmp_path, task):
    folder = shared_data / "lamp_format" / f"{task}_time" / "dev"
    assert prlm("index", folder / "dev_questions.json", "-w", tmp_path / "w").exit_code == 0
    draw = random.Random(0)
    rows = []
    for fields in prlm("retrieve", "--split", "dev", "-w", tmp_path / "w").records:
        retrieved = convert(Retrieved, fields)
        title = retrieved.profile[0].title if retrieved.profile else None
        answer = None if draw.random() < 0.1 else title  # as if some completions could not be read
        made = {"completion": "c", "reasoning": None, "answer": answer, "policy": "newest", "seed": 0}
        rows.append(widen(Generation, retrieved, **made))
    path = tmp_path / "generations.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    result = prlm("eval", path, "--preset", "lamp", "--submission", tmp_path / "out", "--json")

    metrics = json.loads(result.stdout)["metrics"]
    golds = json.loads((folder / "dev_outputs.json").read_text())
    predictions = json.loads((tmp_path / "out" / f"{task}.json").read_text())
    assert (result.exit_code, list(predictions)) == (0, ["task", "golds"])
    assert result.stderr.splitlines()[-1] == f"prlm: {len(rows)} answers in {tmp_path / 'out' / task}.json"
    assert {name: metrics[name]["mean"] for name in metrics} == pytest.approx(official(golds, predictions), abs=1e-9)
