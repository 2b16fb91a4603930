"""Each signal of the watchdog is set off by a training of a tiny model that goes wrong in that way.

`profile_ignored` needs held-out queries and other users: `test_profile_ignored.py` has it.
"""

from __future__ import annotations

import pytest
import torch
from msgspec.structs import replace

from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import PromptSettings, WatchdogSettings
from prlm_cli.models.tokenization import TokenizerCodec
from prlm_cli.pipeline.policies import builder_for
from prlm_cli.pipeline.watching import measures
from prlm_cli.rewards import RewardContext
from prlm_cli.training.callbacks import NotFinite, ReportProgress, Watch
from prlm_cli.training.grpo import Rollout, train_grpo
from prlm_cli.training.watchdog import SIGNALS
from tests.training.grpo_runs import Figures, lengths, settings
from tests.training.tiny import asked, trainable

_EVERY_SECOND = list(range(0, 258, 2))  # stop ids: few tokens to a completion
_RECORDS = [ProfileDocument(doc_id="d", text="letters", title="A B C D E F G H")]
_FAST = {"learning_rate": 0.02, "prompts_per_step": 2, "num_generations": 32, "temperature": 1.0}


def constant(*, completions, queries):
    """Likes everything."""
    return [1.0] * len(completions)


def nothing(*, completions, queries):
    """Likes nothing, as a scorer that broke."""
    return [0.0] * len(completions)


def longer(*, completions, queries):
    """Pays for length."""
    return [float(len(completion)) for completion in completions]


def letters(*, completions, queries):
    """Pays for four letters: what a reward model might fall for."""
    return [sum(c in "ABCD" for c in text) / max(1, len(text)) for text in completions]


def other_letters(*, completions, queries):
    """Pays for anything else: what users really wrote."""
    return [1 - share for share in letters(completions=completions, queries=queries)]


def blank(*, completions, queries):
    """Pays for completions without a readable answer."""
    return [float(not text.strip()) for text in completions]


def giving_up(*, completions, queries):
    """Scores as `lengths` does, but not what is long."""
    values = lengths(completions=completions, queries=queries)
    return [value if len(text) < 5 else None for text, value in zip(completions, values, strict=True)]


class Breaking:
    """A reward that becomes another after two steps."""

    def __init__(self, reward, then):
        self._rewards = [reward, reward]
        self._then = then

    def __call__(self, **given):
        return (self._rewards.pop() if self._rewards else self._then)(**given)


def times(factor):
    """A reward out of scale."""
    return lambda **given: [factor * value for value in lengths(**given)]


def watched(tiny_model, folder, reward=lengths, *, watchdog=None, others=None, opinion=0.4, reasoning="off", **fields):
    """The signals that a training sets off, and the figures of its steps."""
    model, tokenizer = trainable(tiny_model)
    # Tied to its input, the head of the random model hardly prefers a token to another: it is to have an opinion.
    head = model.get_output_embeddings()
    weights = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(1))
    head.weight = torch.nn.Parameter(opinion * weights, requires_grad=False)
    told, figures, chosen = [], Figures(), settings(**_FAST | fields)
    prompt = PromptSettings(layout="completion", reasoning=reasoning)
    train_grpo(
        model,
        tokenizer,
        [Rollout([65 + n] * 5, replace(asked(n), profile=_RECORDS)) for n in range(2)],
        {"measure": (reward, 1.0), **(others or {})},
        chosen,
        stop_ids=_EVERY_SECOND,
        max_new_tokens=chosen.max_new_tokens or 6,
        seed=0,
        checkpoints=folder / "checkpoints",
        callbacks=[
            figures,
            ReportProgress(Silent().stage("test"), lambda line: None, {}),
            Watch(
                WatchdogSettings(**{"window": 1} | (watchdog or {})), {}, lambda step, alarm: told.append(alarm.signal)
            ),
        ],
        measures=measures(RewardContext(builder_for(prompt, TokenizerCodec(tokenizer)))),
    )
    return told, [line for line in figures.lines if "loss" in line]


_RUNS = {
    "reward": {"reward": Breaking(lengths, nothing), "steps": 3},
    "zero_variance": {"reward": constant, "steps": 1},
    "unscored": {"reward": giving_up, "steps": 1},
    "length": {"reward": longer, "max_new_tokens": 24, "steps": 6, "opinion": 0.3},
    "clipped": {"max_new_tokens": 2, "steps": 1},
    "format": {"reward": blank, "steps": 6},
    "entropy": {"reward": letters, "steps": 5},
    "copying": {"reward": letters, "steps": 5},
    "thoughts": {"reward": letters, "reasoning": "on", "steps": 5},
    "clip_ratio": {"num_iterations": 4, "steps": 4},
    "reward_hacking": {
        "reward": nothing,
        "others": {"personalization": (letters, 1.0), "overlap": (other_letters, 0.1)},
        "steps": 20,
    },
    "gradient": {"reward": Breaking(lengths, times(1000)), "scale_rewards": "none", "steps": 3},
    "kl": {"reward": letters, "beta": 1e-3, "steps": 5},
}


def test_every_signal_is_provoked():
    assert {*_RUNS, "profile_ignored"} == set(SIGNALS)


@pytest.mark.parametrize("signal", _RUNS)
def test_a_training_that_goes_wrong_sets_off(tiny_model, tmp_path, signal):
    told, _ = watched(tiny_model, tmp_path, **_RUNS[signal])

    assert signal in told


def test_rollouts_that_are_used_once_have_no_ratio_to_clip(tiny_model, tmp_path):
    _, lines = watched(tiny_model, tmp_path, steps=4)

    assert {line["clip_ratio/region_mean"] for line in lines} == {0.0}


def test_a_gradient_that_stays_zero_sets_off_its_signal(tiny_model, tmp_path):
    told, lines = watched(tiny_model, tmp_path, constant, watchdog={"window": 3}, steps=3)

    assert {line["grad_norm"] for line in lines} == {0.0}
    assert "gradient" in told


def test_a_training_in_which_nothing_is_wrong_sets_nothing_off(tiny_model, tmp_path):
    told, lines = watched(tiny_model, tmp_path, watchdog={"window": 3}, learning_rate=1e-5, steps=6, max_new_tokens=12)

    assert (told, len(lines)) == ([], 6)


@pytest.mark.parametrize(
    ("training", "what"),
    [
        ({"reward": times(1e30), "scale_rewards": "none"}, "grad_norm"),
        ({"learning_rate": 1e30, "steps": 4}, "a score of the policy"),
    ],
    ids=["a reward out of all scale", "a learning rate out of all scale"],
)
def test_what_is_not_finite_ends_the_training(tiny_model, tmp_path, training, what):
    with pytest.raises(NotFinite, match=rf"{what} is not finite at step [123]; lower the learning rate"):
        watched(tiny_model, tmp_path, **training)
