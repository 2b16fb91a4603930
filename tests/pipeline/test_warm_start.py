from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.presets import PRESETS
from prlm_cli.pipeline.pairs import pairs
from prlm_cli.pipeline.policies import load_policy
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.pipeline.train_reward import train_reward
from prlm_cli.pipeline.warm_start import warm_start, warm_start_kind
from prlm_cli.training import supervised
from tests.pipeline.small import Notes, small


@pytest.mark.parametrize(
    ("assignments", "reasons_by_itself", "kind"),
    [
        ((), False, "traces"),
        ((), True, "none"),
        (("prompt.reasoning=off",), False, "answers"),
        (("prompt.reasoning=off",), True, "answers"),
        (("policy.start_from=policy-1",), False, "none"),
        (("policy.start_from=policy-1", "prompt.reasoning=off"), False, "none"),
        (("warm_start.kind=answers",), True, "answers"),
        (("warm_start.kind=traces", "prompt.reasoning=on"), True, "traces"),
        (("warm_start.kind=none",), False, "none"),
        (("warm_start.kind=star",), True, "star"),
    ],
)
def test_the_kind_that_auto_stands_for(assignments, reasons_by_itself, kind):
    assert warm_start_kind(resolve(assignments=assignments), reasons_by_itself=reasons_by_itself) == kind


@pytest.mark.parametrize("train", [train_policy, train_reward, pairs])
def test_traces_without_reasoning_are_an_error_and_nothing_is_trained(tiny_model, workspace, train):
    settings = ("prompt.reasoning=off", "warm_start.kind=traces", "pairs.policy=warm-start")

    with pytest.raises(SettingsError, match="--reasoning off; --reasoning on, or --warm-start answers"):
        train(workspace, small(tiny_model, *settings))

    assert list(workspace.runs()) == []


def test_the_paper_has_no_warm_start():
    assert PRESETS["paper"]["warm_start"] == {"kind": "none"}


def test_a_warm_start_is_made_once_and_never_the_latest_policy(tiny_model, workspace, queries, monkeypatch):
    config, reporter = small(tiny_model, "prompt.reasoning=on"), Notes()

    run = warm_start(workspace, queries, config, "traces", reporter)
    first = (run.adapter / "adapter_model.safetensors").read_bytes()
    monkeypatch.setattr(supervised, "train_supervised", None)
    again = warm_start(workspace, queries, config, "traces", reporter)

    assert (again.name, again.folder) == (run.name, run.folder)
    assert reporter.notes == [f"warm start: {run.name} from an earlier time"]
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == first
    assert (run.is_finished, run.state["is_warm_start"], run.metrics["examples"]) == (True, True, 6)
    assert workspace.latest("policy") is None


def test_other_inputs_make_another_warm_start(tiny_model, workspace, queries, rows):
    def name(*assignments, queries=queries, kind="answers"):
        config = small(tiny_model, "prompt.reasoning=off", *assignments)
        return warm_start(workspace, queries, config, kind, Notes()).name

    names = [
        name(),
        name("seed=1"),
        name("warm_start.steps=3"),
        name("prompt.max_tokens=300"),
        name("model.lora_r=8"),
        name(queries=queries[:5]),
        name(queries=[replace(queries[0], target="another"), *queries[1:]]),
        name(kind="traces"),
    ]

    assert len(set(names)) == len(rows) == len(names)
    assert name("policy.steps=9", "eval.bootstrap=200") == names[0]


@pytest.mark.parametrize("kind", ["answers", "traces"])
def test_it_imitates_the_users_own_answers(tiny_model, workspace, queries, rows, kind):
    config = small(tiny_model, f"prompt.reasoning={'on' if kind == 'traces' else 'off'}")

    warm_start(workspace, queries, config, kind, Notes())

    policy = load_policy(config, reporter=Notes())
    assert len(rows[0]) == len(queries)
    for query, example in zip(sorted(queries, key=lambda query: query.query_id), rows[0], strict=True):
        completion = policy.tokenizer.decode(example.completion_ids[:-1])
        assert policy.builder.is_well_formed(completion)
        assert policy.builder.parse(completion).answer == query.target
        assert example.prompt_ids == policy.builder.build(query.text, query.profile).ids
        assert example.completion_ids[-1] == policy.tokenizer.eos_token_id


def test_an_interrupted_warm_start_goes_on(tiny_model, workspace, queries, monkeypatch):
    config = small(tiny_model, "prompt.reasoning=off", "warm_start.steps=4")
    whole = warm_start(workspace, queries, config, "answers", Notes())
    expected = (whole.adapter / "adapter_model.safetensors").read_bytes()
    workspace.remove(whole)

    class Killed(Exception):
        pass

    def at_step_3(figures):
        if figures["step"] == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("prlm_cli.core.workspace.Run.append_log", lambda run, figures: at_step_3(figures))
        with pytest.raises(Killed):
            warm_start(workspace, queries, config, "answers", Notes())
    run = warm_start(workspace, queries, config, "answers", Notes())

    assert (run.adapter / "adapter_model.safetensors").read_bytes() == expected
    assert [json.loads(line)["step"] for line in run.log.read_text().splitlines()] == [3, 4]


def test_queries_without_targets_are_no_examples(tiny_model, workspace, queries):
    bare = [replace(query, target=None) for query in queries]

    with pytest.raises(
        DataError, match=r"no training query has a target; a warm start imitates the users' own answers"
    ):
        warm_start(workspace, bare, small(tiny_model), "answers", Notes())
