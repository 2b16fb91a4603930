from __future__ import annotations

import json

import pytest

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.suites.benchmarks import BENCHMARKS
from prlm_cli.pipeline.suites.run import run_suite
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.tasks import TASKS
from tests.engines.chat_server import prompt_of, serving
from tests.pipeline.small import Notes, indexed, small
from tests.pipeline.suites.files import SCORED, personalllm_rows, realpref_rows, write_suite

FEW = ("generation.engine=openai", "server.model=m", "eval.bootstrap=100", "prompt.max_tokens=800")


def _run(tmp_path, answer, name, path, *assignments, **options):
    """What a suite gives for a policy on a server, and what that was asked."""
    with serving(answer) as server:
        layers = [*FEW, f"server.url={server.url}", *assignments]
        workspace = Workspace(tmp_path / "workspace")
        result = run_suite(workspace, name, path, lambda base: resolve(base=base, assignments=layers), **options)
    return result, server.asked


def _values(result, of="all"):
    return {figure.name: figure.value for figure in result.figures if figure.of == of}


def _rows(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", SCORED)
def test_a_policy_that_knows_the_target_scores_one_and_another_less(tmp_path, name):
    path, _, target = write_suite(name, tmp_path)
    cue = TASKS[BENCHMARKS[name].task].cue

    right, asked = _run(tmp_path, lambda body: f"{cue}: {target}", name, path)
    wrong, _ = _run(tmp_path, lambda body: "zebra", name, path)

    best, worst = (0.0, 4.0) if name == "lamp-3" else (1.0, 0.0)  # stars: 5 stands for what is no number
    metrics = BENCHMARKS[name].metrics
    most = {"f1_citation": 1 / 2, "f1_tag": 1 / 15}  # the mean over all labels, of which one occurs here
    expected = {metric: most.get(metric, best) for metric in metrics}
    assert _values(right) == pytest.approx(expected, abs=0.01)  # METEOR is a little below 1 for equal texts
    assert _values(wrong) == dict.fromkeys(metrics, worst)
    assert (right.n, right.users, right.policy, len(right.records)) == (2, 2, "openai:m", 2)
    is_label = name in ("lamp-1", "lamp-2", "lamp-3")  # which the question itself lists
    assert is_label or all(target not in prompt_of(body) for body in asked)


@pytest.mark.parametrize("name", SCORED)
def test_the_prompt_shows_the_history_and_what_is_asked(tmp_path, name):
    path, given, _ = write_suite(name, tmp_path)
    task = TASKS[BENCHMARKS[name].task]

    _, asked = _run(tmp_path, lambda body: "x", name, path, metrics=["rouge1"])
    prompt = prompt_of(asked[0])

    assert len(asked) == 2 and prompt.startswith(task.instruction)
    assert given.split()[-1] in prompt and "(untitled)" not in prompt
    assert prompt.count(f"{task.cue}: ") == 1  # of the one record


def test_reviews_show_what_was_reviewed_before_the_review(tmp_path):
    path, _, _ = write_suite("longlamp-review", tmp_path)

    _, asked = _run(tmp_path, lambda body: "x", "longlamp-review", path, metrics=["rouge1"])

    assert "Product: Fine pot\nReview: This pot boils. I am glad.\n\nProduct: Write a review" in prompt_of(asked[0])


def test_the_suites_own_metrics_are_those_of_the_benchmark(tmp_path):
    path, _, target = write_suite("lamp-5", tmp_path)

    result, _ = _run(tmp_path, lambda body: target, "lamp-5", path)

    assert list(_values(result)) == ["rouge1", "rougeL"]


def test_a_file_of_another_task_is_refused(tmp_path):
    path, _, _ = write_suite("lamp-5", tmp_path)

    with pytest.raises(DataError, match="is of LaMP-5; --suite lamp-5, not lamp-4"):
        _run(tmp_path, lambda body: "x", "lamp-4", path)


def test_questions_without_outputs_are_refused(tmp_path):
    path, _, _ = write_suite("lamp-5", tmp_path)
    path.with_name("dev_outputs.json").unlink()

    with pytest.raises(DataError, match="query 1 has no target"):
        _run(tmp_path, lambda body: "x", "lamp-5", path)


@pytest.mark.parametrize(
    ("name", "assignments", "options", "says"),
    [
        ("lamp-9", [], {}, "no suite 'lamp-9'"),
        ("lamp-5", [], {"metrics": ["rogueL"]}, "no metric 'rogueL'"),
        ("realpref", [], {"metrics": ["rougeL"]}, "--metrics does not go with --suite realpref"),
        ("realpref", ["judge.by=['me']"], {}, "no judge 'me'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(tmp_path, name, assignments, options, says):
    with pytest.raises(SettingsError, match=says):
        _run(tmp_path, lambda body: pytest.fail("asked"), name, tmp_path / "none.json", *assignments, **options)


def _fitting(body):
    """Answers by the user's history, where that is shown: a perfect policy; as a judge, it likes what fits."""
    prompt = prompt_of(body)
    hated = "cilantro" if "cilantro is not" in prompt or "Dislikes cilantro" in prompt else "coriander"
    options = dict(line.split(": ", 1) for line in prompt.splitlines() if line[1:3] == ": ")
    if not options:
        return "Fish with herbs" if "not for me" in prompt else "Fish with cilantro and coriander"
    if "True" in options.values():
        return next(letter for letter, option in options.items() if option == "False")
    return next(letter for letter, option in options.items() if hated not in option and option != "Nothing")


def test_a_policy_that_follows_the_history_is_right_in_every_order(tmp_path):
    result, _ = _run(tmp_path, _fitting, "realpref", _rows(tmp_path, realpref_rows()))

    found = _values(result)
    assert (found["accuracy"], found["consistency"], found["unread"]) == (1, 1, 0)
    assert found["chance"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert _values(result, "choice explicit")["accuracy"] == _values(result, "true_false implicit")["accuracy"] == 1
    assert result.notes == ["2 open questions have no judge; --set 'judge.by=[\"openai\"]' names one"]


def test_a_policy_of_one_letter_is_no_better_than_chance_and_inconsistent(tmp_path):
    result, _ = _run(tmp_path, lambda body: "A", "realpref", _rows(tmp_path, realpref_rows()))

    for part in ("all", "choice explicit", "true_false implicit"):
        found = _values(result, part)
        assert found["accuracy"] == found["consistency"] == pytest.approx(found["chance"])


def test_the_policy_never_sees_the_preference_and_the_judge_does(tmp_path):
    rows = [row for row in realpref_rows() if row["kind"] == "open"]

    result, asked = _run(tmp_path, _fitting, "realpref", _rows(tmp_path, rows), "judge.by=['openai']")

    judged = [body for body in asked if "Which of the options" in prompt_of(body)]
    assert len(asked) == 4 + 2 * 3 and len(judged) == 2 * 3
    assert all(("Dislikes" in prompt_of(body)) == (body in judged) for body in asked)
    won = _values(result, "history, by openai:m")
    assert (won["win"], won["consistent"], won["first_place"]) == (1, 1, 0.5)


def test_judges_agree_with_people_and_with_each_other(tmp_path):
    rows = [row for row in realpref_rows() if row["kind"] == "open"]
    judges = "judge.by=['openai', 'policy']"

    result, _ = _run(tmp_path, _fitting, "realpref", _rows(tmp_path, rows), judges)

    assert _values(result, "given, by openai:m and people")["agreement"] == 1
    assert "kappa" in _values(result, "history, openai:m and policy")
    assert {(r.judge, r.verdict, r.label) for r in result.records if r.label} == {
        ("openai:m", "a", "a"),
        ("policy", "a", "a"),
    }


def test_a_missing_reward_model_is_said(tmp_path):
    rows = [row for row in realpref_rows() if row["kind"] == "open"]

    with pytest.raises(DataError, match="no reward model"):
        _run(tmp_path, _fitting, "realpref", _rows(tmp_path, rows), "judge.by=['reward-model']")


def _as_before(body):
    """Chooses the length that this user chose before."""
    lines = prompt_of(body).splitlines()
    liked = next(line for line in lines if line.startswith("- Tell me")).count("word")
    return next(line[0] for line in lines if line[1:3] == ": " and line.count("word") == liked)


def test_choosing_as_the_user_did_before_has_no_regret_and_a_letter_has(tmp_path):
    path = _rows(tmp_path, personalllm_rows())
    few = ("judge.users=6", "judge.interactions=4")

    by_history = _values(_run(tmp_path, _as_before, "personalllm", path, *few)[0])
    by_letter = _values(_run(tmp_path, lambda body: "A", "personalllm", path, *few)[0])

    assert (by_history["accuracy"], by_history["regret"]) == (1, pytest.approx(0))
    assert by_letter["regret"] == pytest.approx(by_letter["regret of chance"])
    assert by_letter["regret"] > 0.5


def test_the_result_is_the_same_for_the_same_seed(tmp_path):
    path = _rows(tmp_path, personalllm_rows())

    def ask(seed):
        result, _ = _run(tmp_path, lambda body: "B", "personalllm", path, "judge.users=4", f"seed={seed}")
        return result.as_dict(), list(result.records)

    assert ask(1) == ask(1) != ask(2)


def test_an_untrained_local_model_answers_a_suite_and_the_workspace_stays_as_it_was(tmp_path, tiny_model):
    path, _, _ = write_suite("lamp-4", tmp_path)
    layers = [f"model.name={tiny_model}", "generation.max_new_tokens=4", "eval.bootstrap=100", "prompt.max_tokens=800"]
    workspace = Workspace(tmp_path / "workspace")

    result = run_suite(
        workspace, "lamp-4", path, lambda base: resolve(base=base, assignments=layers), policy="none", reporter=Notes()
    )

    assert (result.policy, result.n) == ("untrained", 2)
    assert not workspace.index.exists()


def test_a_trained_policy_answers_a_suite_with_the_prompts_it_was_trained_with(tmp_path, tiny_model):
    path, _, _ = write_suite("lamp-7", tmp_path)
    workspace = indexed(tmp_path)
    few = ["warm_start.kind=none", "policy.eval_queries=0", "policy.steps=1", "prompt.reasoning=off"]
    train_policy(workspace, small(tiny_model, *few), name="mine")

    result = run_suite(workspace, "lamp-7", path, lambda base: resolve(base=base, assignments=["eval.bootstrap=100"]))

    assert (result.policy, result.n) == ("mine", 2)  # other prompts would have been refused
