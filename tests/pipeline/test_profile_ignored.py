"""Held-out queries judged with another user's records as well, and the signal of the watchdog that comes of it."""

from __future__ import annotations

import json

import pytest
from markupsafe import escape
from msgspec.structs import replace

from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline import stand_ins
from prlm_cli.pipeline import train_policy as module
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.run_log import read_log
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.pipeline.training_set import user_hash
from tests.pipeline.canaries import Corpus, holding, write
from tests.pipeline.policy_runs import interrupt
from tests.pipeline.small import Notes, indexed, small
from tests.pipeline.stub_policies import newest_title, styled_users

_KEYS = ("heldout", "heldout_swapped", "heldout_gain_low")


@pytest.fixture
def workspace(tmp_path):
    return styled_users(tmp_path)


@pytest.fixture
def copying(monkeypatch):
    """A policy that writes the newest title of the records that it is shown; the queries that it is asked."""
    asked = []

    def copy(queries, *given, **options):
        for made in generate(queries, *given, **options):
            asked.append(made)
            yield replace(made, answer=newest_title(made.text, made.profile))

    monkeypatch.setattr(module, "generate", copy)
    return asked


def _swapping(model, *assignments):
    return small(
        model, "warm_start.kind=none", "prompt.reasoning=off", "policy.reward_model=none", "policy.eval_swapped=true",
        "policy.eval_queries=4", *assignments,
    )  # fmt: skip


def _judged(run):
    return {step: [at[key] for key in _KEYS] for step, at in read_log(run).steps.items() if "heldout" in at}


def test_a_policy_that_ignores_the_profile_sets_off_the_signal(tiny_model, workspace):
    reporter = Notes()
    stop = "watchdog.actions.profile_ignored=stop"

    run = train_policy(workspace, _swapping(tiny_model, stop, "policy.steps=3"), reporter=reporter)

    # A random model has no word of anybody.
    assert _judged(run) == {0: [0.0, 0.0, 0.0]}
    (said,) = [alarm.text for step, alarm in read_log(run).alarms if (step, alarm.signal) == (1, "profile_ignored")]
    assert said.startswith("another user's records may do as well: own minus theirs is 0.000 at its lower end; raise")
    assert f"step 1: {said}; stopped" in reporter.notes
    assert (run.metrics["steps"], run.metrics["stopped_by"]) == (1, "profile_ignored")
    assert str(escape(said)) in run.report.read_text()


def test_a_policy_that_follows_the_profile_does_not(tiny_model, workspace, copying):
    run = train_policy(workspace, _swapping(tiny_model, "policy.eval_steps=1"))

    assert _judged(run) == {step: [1.0, 0.0, 1.0] for step in range(3)}
    assert "profile_ignored" not in run.metrics.get("warnings", [])
    assert str(escape("with another user's records")) in run.report.read_text()


def test_both_users_are_known_of_each_query_and_only_dev_queries_are_asked(tiny_model, workspace, copying):
    run = train_policy(workspace, _swapping(tiny_model, "policy.steps=1"))

    own, swapped = copying[:4], copying[4:8]
    assert [(made.query_id, made.user_id) for made in own] == [(made.query_id, made.user_id) for made in swapped]
    assert all(made.profile_user_id is None for made in own)
    for made in swapped:
        assert made.split == "dev"
        assert made.user_id != made.profile_user_id
        assert all(record.doc_id.startswith(f"{made.profile_user_id}-") for record in made.profile)
    assert run.state["swapped"] == [[user_hash(made.user_id), user_hash(made.profile_user_id)] for made in swapped]


def test_another_users_records_are_not_read_unasked(tiny_model, workspace, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("read across users")

    monkeypatch.setattr(stand_ins, "swapped_profile", forbidden)
    run = train_policy(workspace, _swapping(tiny_model, "policy.eval_swapped=false"))

    assert [set(_KEYS) & set(at) for at in read_log(run).steps.values()] == [{"heldout"}, set(), {"heldout"}]
    assert "swapped" not in run.state


def test_a_query_that_nobody_has_records_for_counts_in_its_own_score_alone(tiny_model, tmp_path, copying):
    titles = {"early": "alpha beta", "late": "gamma delta", "later": "epsilon zeta"}
    workspace = indexed(
        tmp_path,
        [
            {"user_id": user, "doc_id": f"{user}-{n}", "text": f"words {n}", "title": title, "date": start + n}
            for (user, title), start in zip(titles.items(), (1900, 2000, 2000), strict=True)
            for n in range(1, 9)
        ],
    )

    run = train_policy(workspace, _swapping(tiny_model, "policy.steps=1"))

    assert [made.user_id for made in copying[:3]] == list(titles)
    assert [made.user_id for made in copying[3:5]] == ["late", "later"]
    assert _judged(run)[0] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("queries", [0, 1])
def test_queries_of_one_user_are_an_error_before_anything_is_trained(tiny_model, workspace, queries):
    with pytest.raises(SettingsError, match=r"policy\.eval_swapped: the held-out queries are not of two users; index"):
        train_policy(workspace, _swapping(tiny_model, f"policy.eval_queries={queries}"))
    assert workspace.runs() == []


def test_an_index_in_which_nobody_can_stand_in_is_an_error_before_anything_is_trained(
    tiny_model, workspace, monkeypatch
):
    def nobody(*_, **__):
        raise DataError("no other user has records")

    monkeypatch.setattr(stand_ins, "swapped_profile", nobody)
    with pytest.raises(DataError, match=r"policy\.eval_swapped: no other user has records for a held-out query"):
        train_policy(workspace, _swapping(tiny_model))
    assert workspace.runs() == []


def test_a_run_that_goes_on_is_told_the_same_as_an_unbroken_one(tiny_model, workspace, monkeypatch):
    config = _swapping(tiny_model, "policy.steps=3", "policy.save_steps=1", "policy.eval_steps=1")
    unbroken = train_policy(workspace, config, name="unbroken")
    interrupt(workspace, config, monkeypatch)
    run = train_policy(workspace, config)

    assert _judged(run) == _judged(unbroken)
    assert read_log(run).alarms == read_log(unbroken).alarms != []


def test_nobodys_text_is_kept(tiny_model, tmp_path):
    corpus, workspace = Corpus("abc"), Workspace(tmp_path / "workspace")
    index(workspace, [write(tmp_path / "data.jsonl", corpus.records)])
    texts = set().union(*corpus.canaries.values())
    before = holding(workspace.folder, texts)

    run = train_policy(workspace, _swapping(tiny_model, "policy.steps=1", "policy.eval_queries=3"))

    assert "heldout_swapped" in json.loads(run.log.read_text().splitlines()[0])
    assert holding(workspace.folder, texts) == before
