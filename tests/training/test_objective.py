"""What the settings of the objective change in the loss, against formulas by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainerCallback

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.settings import PolicySettings
from tests.training.grpo_runs import INPUT_IDS, MASK, Figures, lengths, policy_trainer, train, trained_both_ways
from tests.training.tiny import largest_difference, trainable, weights_of

_LONGEST = 5
_ADVANTAGES = [1.0, -0.5, 2.0, -1.5]
# By how much the policy has moved since the rollouts, in nats a token: beyond both clips, and within them.
_MOVED = [[0.5, -0.1, 0.05, 0.0], [-0.4, -0.3, 0.0, 0.0], [0.1, 0.2, -0.3, 0.9], [0.0, 0.4, -0.6, 0.1]]


def _batch(trainer):
    """A scored batch of two groups of two, the third completion cut; and its log-probabilities and mask."""
    ids, mask = torch.tensor(INPUT_IDS), torch.tensor(MASK)
    with torch.no_grad():
        logps, entropies, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, 4, compute_entropy=True
        )
    kept = mask[:, -4:]
    batch = {
        "prompt_ids": ids[:, :-4],
        "prompt_mask": mask[:, :-4],
        "completion_ids": ids[:, -4:],
        "completion_mask": kept,
        "advantages": torch.tensor(_ADVANTAGES),
        "num_items_in_batch": kept.sum(),
        "old_per_token_logps": logps - torch.tensor(_MOVED),
        "ref_per_token_logps": logps + 0.3 * torch.tensor(_MOVED),
    }
    return batch, logps, entropies, kept


def _loss(trainer, batch):
    trainer.current_gradient_accumulation_steps = 1  # set where training begins
    return trainer._compute_loss(trainer.model, batch).item()


def _clipped(ratio, advantages, low=0.2, high=0.28):
    return -torch.min(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def _row_means(values, kept):
    return (values * kept).sum(1) / kept.sum(1).clamp(min=1)


_BY_HAND = {
    "grpo": lambda losses, kept: _row_means(losses, kept).mean(),
    "dapo": lambda losses, kept: (losses * kept).sum() / kept.sum(),
    "dr_grpo": lambda losses, kept: (losses * kept).sum() / (len(kept) * _LONGEST),
}


@pytest.mark.parametrize("loss_type", _BY_HAND)
def test_the_loss_has_one_ratio_a_token_and_clips_the_upper_side_later(tiny, tmp_path, loss_type):
    trainer = policy_trainer(*tiny, tmp_path, loss_type=loss_type)
    batch, _, _, kept = _batch(trainer)

    losses = _clipped(torch.tensor(_MOVED).exp(), batch["advantages"][:, None])

    assert _loss(trainer, batch) == pytest.approx(float(_BY_HAND[loss_type](losses, kept)))


def test_the_loss_of_gspo_has_one_ratio_a_completion(tiny, tmp_path):
    trainer = policy_trainer(*tiny, tmp_path, loss_type="gspo")
    batch, _, _, kept = _batch(trainer)

    ratio = _row_means(torch.tensor(_MOVED), kept).exp()  # (4,)
    losses = _clipped(ratio, batch["advantages"]) * kept.any(1)

    assert _loss(trainer, batch) == pytest.approx(float(losses.mean()))
    other = policy_trainer(*tiny, tmp_path, loss_type="grpo")
    assert _loss(other, batch) != pytest.approx(float(losses.mean()), rel=0.05)


@pytest.mark.parametrize(("epsilon", "epsilon_high"), [(0.1, 0.5), (0.5, 0.1)])
def test_each_side_of_the_ratio_is_clipped_by_its_own_setting(tiny, tmp_path, epsilon, epsilon_high):
    trainer = policy_trainer(*tiny, tmp_path, loss_type="dapo", epsilon=epsilon, epsilon_high=epsilon_high)
    batch, _, _, kept = _batch(trainer)

    losses = _clipped(torch.tensor(_MOVED).exp(), batch["advantages"][:, None], epsilon, epsilon_high)

    assert _loss(trainer, batch) == pytest.approx(float((losses * kept).sum() / kept.sum()))


def test_the_kl_term_is_that_of_the_paper(tiny, tmp_path):
    trainer = policy_trainer(*tiny, tmp_path, loss_type="grpo", beta=0.5)
    batch, _, _, kept = _batch(trainer)

    log_ratio = 0.3 * torch.tensor(_MOVED)  # of the reference to the policy
    kl = log_ratio.exp() - log_ratio - 1
    losses = _clipped(torch.tensor(_MOVED).exp(), batch["advantages"][:, None]) + 0.5 * kl

    assert _loss(trainer, batch) == pytest.approx(float(_row_means(losses, kept).mean()))


def test_the_entropy_of_the_tokens_that_count_is_taken_from_the_loss(tiny, tmp_path):
    trainer = policy_trainer(*tiny, tmp_path, entropy_coef=0.3)
    plain = policy_trainer(*tiny, tmp_path)
    batch, _, entropies, kept = _batch(trainer)

    without, found = (_loss(t, batch) for t in (plain, trainer))

    assert found == pytest.approx(without - 0.3 * float((entropies * kept).sum() / kept.sum()))


def test_a_policy_that_only_its_entropy_pays_becomes_more_random(tiny, tmp_path):
    figures = Figures()

    def nothing_to_learn(*, completions, queries):
        return [1.0] * len(completions)

    train(*tiny, tmp_path, nothing_to_learn, callbacks=[figures], steps=6, entropy_coef=1.0, max_grad_norm=1.0)

    entropies = [line["entropy"] for line in figures.lines if "entropy" in line]
    assert entropies[-1] > entropies[0] + 1e-3


@pytest.mark.parametrize(
    "fields",
    [
        {"entropy_coef": 0.5},
        {"loss_type": "gspo", "num_iterations": 2, "steps": 4},
        {"num_iterations": 2, "steps": 4, "beta": 0.1},
    ],
    ids=["entropy", "gspo, rollouts used twice", "rollouts used twice, with a KL term"],
)
def test_an_objective_is_that_of_stock_trl(tiny_model, tmp_path, monkeypatch, fields):
    (shared, weights), (stock, expected) = trained_both_ways(tiny_model, tmp_path, monkeypatch, fields)

    for ours, theirs in zip(shared[:-1], stock[:-1], strict=True):
        for key in ("loss", "grad_norm", "entropy", "clip_ratio/region_mean"):
            assert ours[key] == pytest.approx(theirs[key], rel=2e-4, abs=2e-4), key
    assert largest_difference(weights, expected) < 1e-3


def test_rollouts_serve_as_many_steps_as_asked_for(tiny, tmp_path):
    figures, scored = Figures(), []

    def reward(*, completions, queries):
        scored.append(tuple(completions))
        return lengths(completions=completions, queries=queries)

    train(*tiny, tmp_path, reward, steps=4, num_iterations=2, callbacks=[figures])

    assert len(scored) == 2
    assert ["reward" in line for line in figures.lines if "loss" in line] == [True, False, True, False]


def test_a_checkpoint_between_two_draws_of_rollouts_is_refused():
    with pytest.raises(SettingsError, match=r"save_steps: expected a multiple of the 3 steps of num_iterations"):
        PolicySettings(num_iterations=3, save_steps=4)


class _Stop(TrainerCallback):
    """A kill as the step after `step` begins."""

    def __init__(self, step):
        self._step = step

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self._step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "fields",
    [
        {"num_iterations": 2, "save_steps": 2},
        {"beta": 0.1, "save_steps": 1},
        {"zero_variance": "resample", "save_steps": 1},
    ],
    ids=["rollouts used twice", "KL term", "resampled"],
)
def test_a_broken_run_ends_like_an_unbroken_one(tiny_model, tmp_path, fields):
    def some_alike(*, completions, queries):
        return [
            0.0 if query.query_id in ("q0", "q1") else float(len(set(completion)))
            for completion, query in zip(completions, queries, strict=True)
        ]

    options = {"steps": 6, "queries": 6, **fields}
    unbroken = _started(tiny_model)
    train(*unbroken, tmp_path / "unbroken", some_alike, **options)
    with pytest.raises(KeyboardInterrupt):
        train(*_started(tiny_model), tmp_path / "broken", some_alike, callbacks=[_Stop(3)], **options)
    resumed = _started(tiny_model)

    assert train(*resumed, tmp_path / "broken", some_alike, **options) in (2, 3)
    assert largest_difference(weights_of(resumed[0]), weights_of(unbroken[0])) < 1e-6


def _started(folder):
    """A model whose adapter is not new, as after a warm start."""
    model, tokenizer = trainable(folder)
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model, tokenizer


def test_the_reference_of_the_kl_term_is_the_adapter_that_training_started_from(tiny_model, tmp_path):
    (model, tokenizer), figures = _started(tiny_model), Figures()
    start = weights_of(model)

    train(model, tokenizer, tmp_path, steps=4, beta=0.1, callbacks=[figures])

    kl = [line["kl"] for line in figures.lines if "kl" in line]
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert kl[-1] > 1e-4
    frozen = {n.replace(".ref.", ".default."): p for n, p in weights_of(model, trained=False).items() if ".ref." in n}
    assert largest_difference(frozen, start) == 0
    assert largest_difference(weights_of(model), start) > 1e-3
