"""However a step is cut into passes, and whatever becomes of them, it is the same step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import GRPOTrainer

from prlm_cli.core.errors import OutOfMemoryError
from prlm_cli.training import shared_prefix
from tests.training.grpo_runs import Figures, policy_trainer, train
from tests.training.tiny import largest_difference, trainable, weights_of

_LOSSES = ["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo"]


@pytest.fixture(scope="module")
def trainers(tiny_model, tmp_path_factory):
    """One that shares prompts and one that cannot; their adapters are random, so no gradient is zero."""
    found = {}
    for shares in (True, False):
        model, tokenizer = trainable(tiny_model)
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        trainer = policy_trainer(model, tokenizer, tmp_path_factory.mktemp("trainer"))
        trainer.shares_prefix = shares
        trainer.current_gradient_accumulation_steps = 1  # which TRL sets as it begins
        found[shares] = trainer
    return found


def _step(trainer, shapes, seed):
    """A scored step of groups of completions of such lengths, 0 for one that was cut and masked; shuffled."""
    draws = torch.Generator().manual_seed(seed)
    rows = [(5 + 2 * g, length) for g, group in enumerate(shapes) for length in group]
    order = torch.randperm(len(rows), generator=draws).tolist()
    longest_prompt, longest = max(p for p, _ in rows), max(max(c for _, c in rows), 1)
    ids = torch.randint(3, 250, (len(rows), longest_prompt + longest), generator=draws)
    mask = torch.zeros_like(ids)
    for row, place in enumerate(order):
        prompt, completion = rows[place]
        start = longest_prompt - prompt
        ids[row, start:longest_prompt] = torch.arange(20, 20 + prompt)
        mask[row, start : longest_prompt + completion] = 1
    known = -5 + 0.2 * torch.randn(2, len(rows), longest, generator=draws)
    return {
        "prompt_ids": ids[:, :longest_prompt],
        "prompt_mask": mask[:, :longest_prompt],
        "completion_ids": ids[:, longest_prompt:],
        "completion_mask": mask[:, longest_prompt:],
        "advantages": torch.randn(len(rows), generator=draws),
        "num_items_in_batch": mask[:, longest_prompt:].sum(),
        "old_per_token_logps": known[0],  # some ratios are clipped
        "ref_per_token_logps": known[1],
    }


def _outcome(trainer, compute):
    """The loss, the gradient and what was logged."""
    trainer._metrics["train"].clear()
    trainer.model.zero_grad()
    loss = compute()
    gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    return float(loss), gradient, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def _at_once(trainer, inputs):
    """The step as TRL itself computes it."""

    def compute():
        loss = GRPOTrainer.compute_loss(trainer, trainer.model, inputs)
        loss.backward()
        return loss.detach()

    with pytest.MonkeyPatch.context() as patch:
        stock = GRPOTrainer._get_per_token_logps_and_entropies
        patch.setattr(trainer, "_get_per_token_logps_and_entropies", stock.__get__(trainer))
        return _outcome(trainer, compute)


def _in_passes(trainer, inputs, most):
    trainer._passes.most = most
    return _outcome(trainer, lambda: trainer._pass_back(trainer.model, inputs))


def _is_close(found, expected, relative):
    return bool((found - expected).norm() <= relative * expected.norm())  # both zero where all ratios are clipped


@pytest.mark.parametrize("shares", [True, False], ids=["packed", "rows"])
@settings(max_examples=30)
@given(
    shapes=st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=4), min_size=1, max_size=3).filter(
        lambda shapes: any(length for group in shapes for length in group)
    ),
    most=st.none() | st.integers(1, 120),
    loss_type=st.sampled_from(_LOSSES),
    level=st.sampled_from(["token", "sequence"]),
    beta=st.sampled_from([0.0, 0.1]),
    entropy_coef=st.sampled_from([0.0, 0.05]),
    seed=st.integers(0, 99),
)
def test_passes_sum_up_to_the_step_of_stock_trl(
    trainers, shares, shapes, most, loss_type, level, beta, entropy_coef, seed
):
    trainer = trainers[shares]
    trainer.loss_type, trainer.importance_sampling_level, trainer.beta = loss_type, level, beta
    trainer.entropy_coef, trainer._entropy_bonus_enabled = entropy_coef, bool(entropy_coef)
    inputs = _step(trainer, shapes, seed)

    loss, gradient, logged = _in_passes(trainer, inputs, most)
    whole_loss, whole_gradient, _ = _in_passes(trainer, inputs, 10_000)
    stock_loss, stock_gradient, stock_logged = _at_once(trainer, inputs)

    assert _is_close(gradient, whole_gradient, 1e-5)  # fp32, where the terms of some rows cancel
    assert _is_close(gradient, stock_gradient, 1e-4)
    assert loss == pytest.approx(whole_loss, rel=1e-5, abs=1e-6)
    assert loss == pytest.approx(stock_loss, rel=1e-4, abs=1e-5)
    assert logged == {
        name: pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True) for name, value in stock_logged.items()
    }


def test_a_pass_has_no_more_tokens_than_it_may(trainers):
    trainer, sizes = trainers[True], []
    trainer.beta, trainer.loss_type, trainer.importance_sampling_level = 0.0, "dapo", "token"
    hook = trainer.model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: sizes.append(ids[0].numel()))

    _in_passes(trainer, _step(trainer, [[4, 4, 4], [5, 5]], 0), 14)
    hook.remove()

    assert len(sizes) == 4
    assert max(sizes) <= 14


def test_passes_ask_no_other_process_which_may_have_fewer(trainers, monkeypatch):
    trainer, asked = trainers[True], []
    for name in ("gather", "reduce"):
        ask = getattr(trainer.accelerator, name)
        monkeypatch.setattr(
            trainer.accelerator, name, lambda *given, ask=ask, **options: asked.append(ask) or ask(*given, **options)
        )
    inputs, numbers = _step(trainer, [[4, 4, 4], [5, 5]], 0), []
    for most in (1, 10_000):
        asked.clear()
        _in_passes(trainer, inputs, most)
        numbers.append(len(asked))

    assert numbers[0] == numbers[1] > 0


class OutOfMemory:
    """Makes a model's forward passes fail as torch's allocator does.

    Args:
        model: To be watched.
        fails: Whether a pass with so many rows and tokens does; `trains` where there is to be a gradient.
    """

    def __init__(self, model, fails):
        self.sizes = []
        self._fails = fails
        model.get_input_embeddings().register_forward_pre_hook(self._check)

    def _check(self, _, inputs):
        rows, tokens = inputs[0].shape[0], inputs[0].numel()
        trains = torch.is_grad_enabled()
        if trains:
            self.sizes.append(tokens)
        if self._fails(self, rows=rows, tokens=tokens, trains=trains):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("reason", ["", "as stock"], ids=["packed", "rows"])
@pytest.mark.parametrize(
    "fails",
    [
        lambda self, rows, tokens, trains: trains and tokens > 22,
        lambda self, rows, tokens, trains: trains and len(self.sizes) == 2,
    ],
    ids=["every large pass", "the second pass of a step"],
)
def test_a_run_that_ran_out_of_memory_ends_like_one_that_did_not(tiny_model, tmp_path, monkeypatch, reason, fails):
    monkeypatch.setattr(shared_prefix, "why_not", lambda model: reason)
    runs, notes = [], []
    for name in ("enough", "too little"):
        figures, (model, tokenizer) = Figures(), trainable(tiny_model)
        if name == "too little":
            OutOfMemory(model, fails)
        train(model, tokenizer, tmp_path / name, callbacks=[figures], note=notes.append, beta=0.1, learning_rate=1e-3)
        runs.append((weights_of(model), [(line["reward"], line["loss"]) for line in figures.lines[:2]]))

    (weights, lines), (expected, expected_lines) = runs
    assert notes and all("tokens of a pass from now on" in note for note in notes)
    assert largest_difference(weights, expected) < 1e-6
    assert lines == [pytest.approx(line, abs=1e-6) for line in expected_lines]


def test_passes_without_a_gradient_get_smaller_too(tiny_model, tmp_path):
    (model, tokenizer), notes = trainable(tiny_model), []
    # The reference's pass over a group comes before the policy's; a decoding step has one token a row.
    OutOfMemory(model, lambda self, rows, tokens, trains: rows == 1 and tokens > 20)

    train(model, tokenizer, tmp_path, note=notes.append, beta=0.1, learning_rate=1e-3)

    assert notes and all("tokens of a pass" in note for note in notes)


@pytest.mark.parametrize("reason", ["", "as stock"], ids=["packed", "rows"])
@pytest.mark.parametrize("fit", [4, 2, 1])
def test_rollouts_are_drawn_fewer_at_a_time(tiny_model, tmp_path, monkeypatch, reason, fit):
    monkeypatch.setattr(shared_prefix, "why_not", lambda model: reason)
    (model, tokenizer), notes, figures = trainable(tiny_model), [], Figures()

    def check(_, inputs):
        if not torch.is_grad_enabled() and len(inputs[0]) > fit:  # the states of the rows that go on
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model.get_output_embeddings().register_forward_pre_hook(check)
    before = weights_of(model)

    train(model, tokenizer, tmp_path, note=notes.append, callbacks=[figures])

    assert notes == [f"out of memory: at most {n} rollouts at once from now on" for n in (4, 2, 1) if n >= fit]
    assert largest_difference(before, weights_of(model)) > 1e-4


def test_a_completion_that_does_not_fit_is_an_error_that_says_what_to_change(tiny_model, tmp_path):
    model, tokenizer = trainable(tiny_model)
    OutOfMemory(model, lambda self, rows, tokens, trains: trains)

    with pytest.raises(OutOfMemoryError, match=r"^not even \d+ tokens of a pass fit into memory; set policy\.gradient"):
        train(model, tokenizer, tmp_path, note=lambda text: None)
