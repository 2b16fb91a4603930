"""Which training queries each phase of a policy learns from."""

from __future__ import annotations

from itertools import chain

import pytest

from prlm_cli.pipeline import train_policy as module
from prlm_cli.pipeline.policies import load_policy
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.training import supervised
from tests.pipeline.small import Notes, small

_STEP = ("prompt.reasoning=off", "policy.steps=1", "policy.prompts_per_step=2", "policy.eval_queries=0")


@pytest.fixture
def learned(monkeypatch, tiny_model, queries):
    """The ids of the training queries in the order in which they are learned from, by phase."""
    phases = []
    known = {}
    for reasoning in ("off", "on"):
        builder = load_policy(small(tiny_model, *_STEP, f"prompt.reasoning={reasoning}"), reporter=Notes()).builder
        known |= {tuple(builder.build(query.text, query.profile).ids): query.query_id for query in queries}

    class Watched(supervised.CompletionTrainer):
        def __init__(self, examples, *, train_dataset, **arguments):
            phases.append([known[tuple(examples[row["example"]].prompt_ids)] for row in train_dataset])
            super().__init__(examples, train_dataset=train_dataset, **arguments)

    def watching(config, context):
        phase = []
        phases.append(phase)

        def reward(*, completions, queries):
            phase.extend(dict.fromkeys(query.query_id for query in queries))
            return [float(n) for n, _ in enumerate(completions)]

        return {"watching": (reward, 1.0)}

    monkeypatch.setattr(supervised, "CompletionTrainer", Watched)
    monkeypatch.setattr(module, "_rewards", watching)
    return phases


@pytest.mark.parametrize(("kind", "reasoning"), [("answers", "off"), ("traces", "on")])
def test_each_phase_goes_on_with_queries_that_those_before_it_did_not_take(
    tiny_model, workspace, learned, kind, reasoning
):
    step = [*_STEP, f"prompt.reasoning={reasoning}"]
    first = [*step, f"warm_start.kind={kind}", "warm_start.steps=1", "warm_start.batch_size=2"]
    train_policy(workspace, small(tiny_model, *first), name="first")
    train_policy(workspace, small(tiny_model, *step, "policy.start_from=first"), name="second")
    train_policy(workspace, small(tiny_model, *step, "policy.start_from=second"), name="third")

    assert [len(set(phase)) for phase in learned] == [2, 2, 2, 2]
    assert len(set(chain(*learned[:3]))) == 6  # all there are
    assert [workspace.run(name).metrics["queries_taken"] for name in ("first", "second", "third")] == [4, 6, 8]


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_queries_that_the_warm_start_took_already_are_counted_aloud(tiny_model, workspace, learned, steps):
    notes = Notes()
    warm_start = ["warm_start.kind=answers", f"warm_start.steps={steps}", "warm_start.batch_size=2"]

    train_policy(workspace, small(tiny_model, *_STEP, *warm_start, "policy.steps=2"), reporter=notes)

    imitated, drawn_for = learned
    known = sum(query_id in imitated for query_id in drawn_for)
    told = f"{known} of the 4 prompts of GRPO are for queries that the policy was trained on before"
    assert len(drawn_for) == 4
    assert (told in notes.notes) == (known > 0) == (steps > 1)


def test_steps_on_the_same_rollouts_take_their_queries_once(tiny_model, workspace, learned):
    steps = ["policy.steps=3", "policy.num_iterations=2", "warm_start.kind=none"]

    run = train_policy(workspace, small(tiny_model, *_STEP, *steps))

    assert (len(learned[0]), run.metrics["queries_taken"]) == (4, 4)
