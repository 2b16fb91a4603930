"""What ends a run before its last step, what is kept of it, and what is told and written meanwhile."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from importlib.util import find_spec

import pytest
from msgspec.structs import replace
from safetensors.torch import load_file

from prlm_cli.core import network
from prlm_cli.core.configuration import to_toml
from prlm_cli.core.errors import MissingError, SettingsError
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline import train_policy as module
from prlm_cli.pipeline import watching
from prlm_cli.pipeline.best_adapter import BestAdapter
from prlm_cli.pipeline.forget import forget
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.policies import choose_policy
from prlm_cli.pipeline.run_log import read_log
from prlm_cli.pipeline.samples import read_samples
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.training.callbacks import NotFinite
from tests.pipeline.canaries import Corpus, holding, write
from tests.pipeline.small import Notes, indexed, small
from tests.training.grpo_runs import lengths

_CONSTANT = 'policy.rewards={"tests.rewards.functions:constant"=1.0}'


@pytest.fixture
def workspace(tmp_path):
    return indexed(tmp_path)


def _plain(model, *assignments):
    return small(
        model, "warm_start.kind=none", "prompt.reasoning=off", "policy.reward_model=none", "watchdog.window=1",
        *assignments,
    )  # fmt: skip


def _weights(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


def _scored(monkeypatch, *scores):
    """Held-out scores, in the order of the evaluations."""
    found = iter(scores)
    monkeypatch.setattr(module, "_overlaps", lambda policy, queries, config: [next(found)])


def test_a_signal_that_is_to_stop_the_run_ends_it_with_the_best_adapter(tiny_model, workspace):
    reporter = Notes()
    actions = [f"watchdog.actions.{action}" for action in ("zero_variance=stop", "clipped=off", "format=off")]

    run = train_policy(workspace, _plain(tiny_model, _CONSTANT, *actions, "policy.steps=4"), reporter=reporter)

    said = "100% of the groups have rewards that are all the same; raise policy.temperature, or bring harder queries"
    assert reporter.notes[-1] == f"step 1: {said}; stopped"
    assert (run.is_finished, run.metrics["steps"], run.metrics["stopped_by"]) == (True, 1, "zero_variance")
    assert run.metrics["warnings"] == ["zero_variance"]
    assert run.metrics["best_step"] == 0
    assert _weights(run.adapter) == _weights(BestAdapter(run).adapter)
    assert (1, ("zero_variance", said, True)) in read_log(run).alarms
    assert said in run.report.read_text()


def test_the_command_line_exits_with_1_where_the_watchdog_ended_the_run(prlm, tiny_model, workspace):
    config = workspace.folder / "config.toml"
    config.write_text(
        f'[model]\nname = "{tiny_model}"\nlora_r = 4\n[prompt]\nlayout = "completion"\nreasoning = "off"\n'
        '[policy]\nsteps = 3\nnum_generations = 2\nmax_new_tokens = 4\neval_queries = 1\nreward_model = "none"\n'
        '[policy.rewards]\noverlap = 0.0\nformat = 0.0\n"tests.rewards.functions:constant" = 1.0\n'
        '[warm_start]\nkind = "none"\n[watchdog]\nwindow = 1\nactions = { zero_variance = "stop", clipped = "off" }\n'
    )

    result = prlm("train-policy", "-w", workspace.folder, "--config", config, "--name", "mine")

    assert result.exit_code == 1
    assert "prlm: step 1: 100% of the groups have rewards that are all the same" in result.stderr
    assert ["stopped", "by", "zero_variance"] in [line.split() for line in result.stdout.splitlines()]
    assert prlm("runs", "-w", workspace.folder).stdout.splitlines()[1].split()[:3] == ["mine", "policy", "finished"]


def _huge(*, completions, queries):
    return [1e30 * value for value in lengths(completions=completions, queries=queries)]


@pytest.mark.parametrize(
    ("reward", "rate"), [(lengths, 1e30), (_huge, 1e-2)], ids=["by the learning rate", "by a reward"]
)
def test_a_run_whose_weights_are_lost_keeps_the_best_of_before(
    tiny_model, workspace, lively, monkeypatch, reward, rate
):
    monkeypatch.setattr(module, "_rewards", lambda config, context: {"measure": (reward, 1.0)})
    config = _plain(tiny_model, f"policy.learning_rate={rate}", "policy.scale_rewards=none", "policy.steps=9")
    reporter = Notes()

    run = train_policy(workspace, config, reporter=reporter)

    assert (run.is_finished, run.metrics["stopped_by"]) == (True, "not_finite")
    assert "is not finite at step" in reporter.notes[-1] and reporter.notes[-1].endswith("; stopped")
    assert _weights(run.adapter) == _weights(BestAdapter(run).adapter)
    assert all(
        bool(weight.isfinite().all()) for weight in load_file(run.adapter / "adapter_model.safetensors").values()
    )
    assert not run.last.exists()


def test_a_run_whose_weights_are_lost_and_that_nothing_was_kept_of_is_an_error(tiny_model, workspace, lively):
    with pytest.raises(NotFinite, match="lower the learning rate"):
        train_policy(workspace, _plain(tiny_model, "policy.eval_queries=0", "policy.learning_rate=1e30"))
    assert not workspace.runs()[0].is_finished


def test_the_best_and_the_last_adapter_are_kept(tiny_model, workspace, lively, monkeypatch):
    _scored(monkeypatch, 0.1, 0.3, 0.2)

    run = train_policy(workspace, _plain(tiny_model, "policy.eval_steps=1"))

    assert _weights(run.adapter) == _weights(BestAdapter(run).adapter) != _weights(run.last)
    assert choose_policy(workspace, str(run.last), lambda base: base or small(tiny_model), Notes()).adapter == run.last


def test_evaluations_without_a_gain_end_the_run(tiny_model, workspace, lively, monkeypatch):
    _scored(monkeypatch, 0.1, 0.3, 0.2, 0.3)

    run = train_policy(workspace, _plain(tiny_model, "policy.eval_steps=1", "policy.steps=9", "policy.early_stop=2"))

    assert (run.metrics["steps"], run.metrics["best_step"], run.metrics["stopped_by"]) == (3, 1, "early_stop")


def test_an_early_stop_without_dev_queries_is_an_error_before_anything_is_trained(tiny_model, workspace):
    with pytest.raises(SettingsError, match=r"policy\.early_stop: no dev query to judge by"):
        train_policy(workspace, _plain(tiny_model, "policy.early_stop=1", "policy.eval_queries=0"))
    assert workspace.runs() == []


def test_a_run_that_goes_on_warns_and_stops_as_an_unbroken_one(tiny_model, workspace, lively, monkeypatch):
    scores = {0: 0.1, 1: 0.4, 2: 0.3, 3: 0.2}
    config = _plain(
        tiny_model, "policy.steps=6", "policy.save_steps=1", "policy.eval_steps=1", "policy.early_stop=2",
        "watchdog.actions.gradient=off",
    )  # fmt: skip
    _scored(monkeypatch, *scores.values())
    unbroken = train_policy(workspace, config, name="unbroken")
    _scored(monkeypatch, *list(scores.values())[:3])
    append = module.Run.append_log

    def killed(run, figures):
        append(run, figures)
        if figures["step"] == 2 and "loss" in figures:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.Run, "append_log", killed)
        train_policy(workspace, config, name="broken")
    _scored(monkeypatch, *list(scores.values())[2:])
    reporter = Notes()
    run = train_policy(workspace, config, name="broken", reporter=reporter)

    assert "went on from step 1" in reporter.notes
    assert run.metrics["stopped_by"] == "early_stop"
    assert run.metrics == unbroken.metrics
    assert read_log(run).alarms == read_log(unbroken).alarms != []


def test_the_progress_shows_rewards_by_part_the_held_out_score_pace_and_memory(tiny_model, workspace, monkeypatch):
    shown = []

    class Watcher(Notes):
        def stage(self, name):
            return lambda done, total=0, **figures: shown.append((name, done, total, set(figures)))

    train_policy(workspace, _plain(tiny_model, "policy.beta=0.1"), reporter=Watcher())

    parts = {"reward", "overlap", "format", "held-out", "KL", "entropy", "length", "tokens/s", "GB"}
    assert [stage for stage in shown if stage[0] == "GRPO"] == [("GRPO", 1, 2, parts), ("GRPO", 2, 2, parts)]


def test_the_log_says_what_the_watchdog_wants_to_know(tiny_model, workspace):
    run = train_policy(workspace, _plain(tiny_model, "policy.rewards={overlap=1.0, format=0.0}"))

    for figures in read_log(run).steps.values():
        if "loss" in figures:
            assert {"completions/format", "completions/copy_rate", "tokens_per_second", "peak_memory_gb"} <= set(
                figures
            )
            assert figures["tokens_per_second"] > 0


@pytest.fixture
def corpus(tmp_path):
    """Texts that are recognised wherever they stand, and a workspace of them."""
    corpus = Corpus("abc")
    workspace = Workspace(tmp_path / "workspace")
    index(workspace, [write(tmp_path / "data.jsonl", corpus.records)])
    return workspace, corpus


def _telling(monkeypatch):
    """A policy that writes a record's title, whatever its weights: what samples may hold at worst."""

    def write_titles(queries, *given, **options):
        for made in generate(queries, *given, **options):
            yield replace(made, completion=made.profile[0].title)

    monkeypatch.setattr("prlm_cli.pipeline.samples.generate", write_titles)


def test_samples_are_kept_over_time_when_they_are_asked_for(tiny_model, corpus):
    workspace, _ = corpus
    run = train_policy(workspace, _plain(tiny_model, "policy.samples=true", "policy.eval_steps=1"))

    samples = read_samples(run)
    assert len(samples) == 3 and all(list(steps) == [0, 1, 2] for steps in samples.values())
    html = run.report.read_text()
    assert "What the policy writes" in html and "query 3" in html
    assert oct(run.samples.stat().st_mode & 0o777) == "0o600"


def test_no_samples_are_kept_unasked(tiny_model, corpus):
    workspace, _ = corpus
    run = train_policy(workspace, _plain(tiny_model))

    assert not run.samples.exists()
    assert "What the policy writes" not in run.report.read_text()


@pytest.mark.parametrize("of_document", [False, True], ids=["a user", "a document"])
def test_forget_takes_samples_out_of_the_run_and_its_page(tiny_model, corpus, monkeypatch, of_document):
    workspace, corpus = corpus
    _telling(monkeypatch)
    run = train_policy(workspace, _plain(tiny_model, "policy.samples=true", "policy.steps=1"))
    user_id = json.loads(run.samples.read_text().splitlines()[0])["user_id"]
    doc_id = json.loads(run.samples.read_text().splitlines()[0])["profile"][0]["doc_id"] if of_document else None
    gone = corpus.of_document[user_id, doc_id] if of_document else corpus.canaries[user_id]
    pages = {f"runs/{run.name}/samples.jsonl", f"runs/{run.name}/report.html"}
    assert pages <= holding(workspace.folder, gone)

    assert pages <= set(forget(workspace, user_id=user_id, doc_id=doc_id, dry_run=True).rewritten)
    assert pages <= set(forget(workspace, user_id=user_id, doc_id=doc_id).rewritten)

    assert holding(workspace.folder, gone) == set()
    assert ("What the policy writes" in run.report.read_text()) == bool(read_samples(run))


def test_a_forgotten_page_is_made_anew_though_the_samples_went_before(tiny_model, corpus, monkeypatch):
    workspace, corpus = corpus
    _telling(monkeypatch)
    run = train_policy(workspace, _plain(tiny_model, "policy.samples=true", "policy.steps=1"))
    user_id = json.loads(run.samples.read_text().splitlines()[0])["user_id"]
    run.samples.write_text("")  # as if `forget` had been killed in between

    forget(workspace, user_id=user_id)

    assert holding(workspace.folder, corpus.canaries[user_id]) == set()


def test_tensorboard_gets_the_figures_and_nobodys_text(tiny_model, corpus, capfd):
    pytest.importorskip("tensorboard", reason="NOT RUN: the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    workspace, corpus = corpus
    before = holding(workspace.folder, set().union(*corpus.canaries.values()))
    run = train_policy(workspace, _plain(tiny_model, 'policy.trackers=["tensorboard"]'), name="mine")

    events = EventAccumulator(str(run.trackers / "tensorboard" / "mine"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/reward")] == [1, 2]
    assert {"train/rewards/overlap/mean", "train/completions/copy_rate"} <= set(events.Tags()["scalars"])
    assert holding(workspace.folder, set().union(*corpus.canaries.values())) == before
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_an_error_before_anything_is_trained(
    workspace, tiny_model, monkeypatch, name
):
    monkeypatch.setattr(watching, "find_spec", lambda package: None if package == name else find_spec(package))

    with pytest.raises(MissingError) as caught:
        train_policy(workspace, _plain(tiny_model, f'policy.trackers=["{name}"]'))
    assert str(caught.value) == f"policy.trackers: {name} is not installed; pip install 'prlm[{name}]'"
    assert workspace.runs() == []


def test_wandb_writes_into_the_workspace_and_sends_nothing_when_offline(tiny_model, corpus, capfd):
    pytest.importorskip("wandb", reason="NOT RUN: the extra wandb is not installed")
    workspace, corpus = corpus
    before = holding(workspace.folder, set().union(*corpus.canaries.values()))
    network.refuse_network()
    try:
        run = train_policy(workspace, _plain(tiny_model, 'policy.trackers=["wandb"]'), name="mine")
    finally:
        network.refuse_network(False)

    assert list((run.trackers / "wandb" / "wandb").glob("offline-run-*/*.wandb"))
    assert holding(workspace.folder, set().union(*corpus.canaries.values())) == before
    assert capfd.readouterr() == ("", "")


def test_trackio_gets_the_figures_and_nobodys_text(tiny_model, corpus, tmp_path):
    if find_spec("trackio") is None:
        pytest.skip("NOT RUN: the extra trackio is not installed")
    workspace, corpus = corpus
    config = tmp_path / "config.toml"
    config.write_text(to_toml(_plain(tiny_model, 'policy.trackers=["trackio"]')))
    place = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}  # which it reads as it is imported
    command = [sys.executable, "-m", "prlm_cli", "train-policy", "--offline", "-w", workspace.folder, "--json"]

    done = subprocess.run([*command, "--config", config], env=place, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout)["steps"] == 2
    with sqlite3.connect(tmp_path / "trackio" / "prlm.db") as figures:
        logged = [json.loads(line) for (line,) in figures.execute("SELECT metrics FROM metrics ORDER BY step")]
    assert [line["train/global_step"] for line in logged if "train/reward" in line] == [1, 2]
    assert holding(tmp_path / "trackio", set().union(*corpus.canaries.values())) == set()


def test_a_tracker_that_there_is_not_is_an_error(tiny_model):
    with pytest.raises(SettingsError, match=r"policy\.trackers: expected a list of"):
        _plain(tiny_model, 'policy.trackers=["mlflow"]')
