from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest

from prlm_cli.core.workspace import Run
from prlm_cli.pipeline.policy_report import html_report
from prlm_cli.pipeline.run_log import log_alarm
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.training.watchdog import Alarm
from tests.conftest import tiny_corpus
from tests.pipeline.small import indexed, small
from tests.report.elements import Elements

METRICS = {"steps": 3, "best_step": 2, "best_heldout": 0.25, "reward_last_quarter": 0.5}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def _charts(html):
    found = [ElementTree.fromstring(chart) for chart in re.findall(r"<figure>.*?</figure>", html)]
    return {chart.find("figcaption").text: chart for chart in found}


def _texts(html):
    return [str(text) for text in Elements(html).texts if text.strip()]


def _points(line):
    return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def _training(run, steps, **figures):
    for step in range(1, steps + 1):
        run.append_log({"step": step, "seconds": 1.0, "reward": step / steps, **figures})


def test_the_curves_are_those_that_the_log_has(run):
    run.append_log({"step": 0, "heldout": 0.2})
    _training(
        run, 3, kl=0.1, **{"rewards/overlap/mean": 0.3, "rewards/format/mean": 1.0, "completions/mean_length": 9.0}
    )

    charts = _charts(html_report(run, METRICS, seed=7))

    assert list(charts) == [
        "Reward",
        "Held-out score, greedy, on dev queries",
        "Reward by part, before weights",
        "KL to the reference model",
        "Completion length",
    ]
    assert [t.text for t in charts["Reward by part, before weights"].iter("text")][-2:] == ["overlap", "format"]


def test_the_page_says_what_the_watchdog_said_and_when(run):
    _training(run, 3)
    assert "Nothing." in Elements(html_report(run, METRICS, seed=0)).texts

    log_alarm(run, 2, Alarm("entropy", "the entropy fell <far>", stops=False))
    log_alarm(run, 3, Alarm("kl", "the policy is far away", stops=True))
    texts = _texts(html_report(run, METRICS | {"stopped_by": "kl"}, seed=0))

    start = texts.index("the entropy fell <far>")
    assert texts[start : start + 8] == [
        "the entropy fell <far>", "entropy", "warned", "2", "the policy is far away", "kl", "stopped", "3",
    ]  # fmt: skip
    assert {"stopped by", "kl"} <= set(texts)


def test_form_copying_groups_without_spread_and_memory_are_curves(run):
    figures = {"completions/format": 1.0, "completions/copy_rate": 0.2, "frac_reward_zero_std": 0.5}
    _training(run, 3, peak_memory_gb=2.0, **figures)

    charts = _charts(html_report(run, METRICS, seed=0))

    assert {"Form and copying", "Groups whose rewards are all the same", "Peak memory so far"} <= set(charts)


def test_samples_are_shown_a_table_a_query_and_of_a_step_made_twice_the_later_one(run):
    _training(run, 3)
    lines = [("q2", 0, "first"), ("q1", 0, "<b>other</b>"), ("q2", 4, "cut off"), ("q2", 4, "second")]
    run.samples.write_text(
        "".join(json.dumps({"query_id": q, "step": step, "completion": text}) + "\n" for q, step, text in lines)
    )

    texts = _texts(html_report(run, METRICS, seed=0))

    assert texts[texts.index("query 1") :][:8] == ["query 1", "step", "first", "0", "second", "4", "query 2", "step"]
    assert "<b>other</b>" in texts and "cut off" not in texts


def test_reward_and_held_out_score_share_their_steps(run):
    for step in (0, 2, 4):
        run.append_log({"step": step, "heldout": 0.2})
    _training(run, 4)

    charts = _charts(html_report(run, METRICS, seed=0))
    reward, heldout = (_points(next(charts[name].iter("polyline"))) for name in list(charts)[:2])

    assert heldout[1][0] == reward[1][0]
    assert heldout[0][0] < reward[0][0]


def test_the_held_out_score_with_another_users_records_is_a_second_line_of_its_chart(run):
    for step in (0, 2):
        run.append_log({"step": step, "heldout": 0.2, "heldout_swapped": 0.1})
    _training(run, 2)

    chart = _charts(html_report(run, METRICS, seed=0))["Held-out score, greedy, on dev queries"]

    assert [text.text for text in chart.iter("text")][-2:] == ["held out", "with another user's records"]
    assert len(list(chart.iter("polyline"))) == 2


def test_of_a_step_that_was_logged_twice_the_later_line_counts(run):
    _training(run, 2)
    run.append_log({"step": 2, "reward": 0.0})

    (line,) = _charts(html_report(run, METRICS, seed=0))["Reward"].iter("polyline")

    assert len(_points(line)) == 2
    assert _points(line)[1][1] > _points(line)[0][1]  # further down is less


def test_a_longer_run_has_each_step_thin_and_the_median_bold(run):
    _training(run, 1000)

    thin, bold = _charts(html_report(run, METRICS, seed=0))["Reward"].iter("polyline")

    assert [line.get("class") for line in (thin, bold)] == ["line0 thin", "line0"]
    assert _points(bold)[-1][1] > _points(thin)[-1][1]  # the median of a rising reward lags behind it
    assert len(_points(thin)) <= 401


def test_what_is_not_finite_is_left_out(run):
    _training(run, 3)
    run.append_log({"step": 2, "reward": float("nan")})

    html = html_report(run, METRICS, seed=0)

    assert "nan" not in html
    assert len(_points(next(_charts(html)["Reward"].iter("polyline")))) == 2


def test_the_page_names_run_seed_and_what_came_of_it(run):
    _training(run, 3)
    texts = Elements(html_report(run, METRICS, seed=7)).texts

    assert f"Policy {run.name}" in texts
    assert {"best held-out score", "0.2500", "best step", "2"} <= set(texts)
    assert any("seed 7" in text for text in texts)


def test_training_leaves_a_page_of_the_run_without_users_text(tmp_path, tiny_model):
    workspace = indexed(tmp_path)

    run = train_policy(workspace, small(tiny_model, "policy.reward_model=none", "warm_start.kind=none"), name="mine")

    html = run.report.read_text()
    assert "Policy mine" in Elements(html).texts
    assert {"Reward", "Held-out score, greedy, on dev queries", "Completion length"} <= set(_charts(html))
    for record in tiny_corpus():
        private = [record.get(field) for field in ("text", "title", "target", "query_id")]
        assert not any(text and text in html for text in private)
