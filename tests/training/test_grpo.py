from __future__ import annotations

import pytest
import torch
from trl import GRPOTrainer

from prlm_cli.core.errors import SettingsError
from prlm_cli.models.adapters import save_adapter
from prlm_cli.training import grpo
from tests.training.grpo_runs import INPUT_IDS, MASK, Figures, policy_trainer, train, trained_both_ways
from tests.training.tiny import largest_difference, trainable, weights_of


def test_log_probabilities_and_entropies_are_those_of_stock_trl(tiny, tmp_path):
    trainer = policy_trainer(*tiny, tmp_path)
    ids, mask = torch.tensor(INPUT_IDS), torch.tensor(MASK)

    logps, entropies, aux = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, 4, compute_entropy=True
    )
    expected, expected_entropies, _ = GRPOTrainer._get_per_token_logps_and_entropies(
        trainer, trainer.model, ids, mask, 4, compute_entropy=True
    )

    kept = mask[:, -4:].bool()
    assert trainer.shares_prefix
    assert aux is None
    assert torch.allclose(logps[kept], expected[kept], atol=1e-4)
    assert torch.allclose(entropies[kept], expected_entropies[kept], atol=1e-4)
    assert not logps[~kept].any()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"micro_batch_tokens": 1000},
        {"micro_batch_tokens": 20},
        {"micro_batch_tokens": 1},
        {"beta": 0.1, "loss_type": "grpo"},
        {"scale_rewards": "batch", "loss_type": "dr_grpo"},
    ],
    ids=[
        "a group at a time",
        "whole step at once",
        "part of a group at a time",
        "a completion at a time",
        "with a KL term",
        "other normalisation",
    ],
)
def test_training_is_that_of_stock_trl(tiny_model, tmp_path, monkeypatch, fields):
    (shared, weights), (stock, expected) = trained_both_ways(tiny_model, tmp_path, monkeypatch, fields)

    for key in ("loss", "grad_norm", "reward", "reward_std", "entropy", "completions/mean_length"):
        for ours, theirs in zip(shared[:2], stock[:2], strict=True):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-4), key
    assert shared[0]["grad_norm"] > 0
    assert largest_difference(weights, expected) < 1e-3


def test_gradient_checkpointing_changes_nothing(tiny_model, tmp_path, monkeypatch):
    common, runs = grpo.common_arguments, []
    for on in (False, True):
        monkeypatch.setattr(
            grpo, "common_arguments", lambda *a, on=on, **f: common(*a, **f) | {"gradient_checkpointing": on}
        )
        figures, (model, tokenizer) = Figures(), trainable(tiny_model)
        train(model, tokenizer, tmp_path / str(on), callbacks=[figures])
        runs.append([(line["reward"], line["grad_norm"]) for line in figures.lines[:2]])

    assert runs[1] == [pytest.approx(figures, rel=1e-4) for figures in runs[0]]


def test_training_changes_the_adapter_and_nothing_else(tiny, tmp_path):
    model, tokenizer = tiny
    before, base = weights_of(model), weights_of(model, trained=False)

    assert train(model, tokenizer, tmp_path) == 0

    assert largest_difference(before, weights_of(model)) > 1e-4
    assert largest_difference(base, weights_of(model, trained=False)) == 0


def test_fewer_queries_than_a_step_takes_is_an_error_and_not_a_run_of_no_steps(tiny, tmp_path):
    with pytest.raises(SettingsError, match=r"1 training queries, but a step takes 2; lower policy\.prompts_per_step"):
        train(*tiny, tmp_path, queries=1)


def test_as_many_queries_as_a_step_takes_are_enough(tiny, tmp_path):
    figures = Figures()

    train(*tiny, tmp_path, queries=2, steps=3, callbacks=[figures])

    assert len([line for line in figures.lines if "loss" in line]) == 3


def test_completions_that_were_all_cut_train_nothing(tiny, tmp_path):
    model, tokenizer = tiny
    before, figures = weights_of(model), Figures()

    train(model, tokenizer, tmp_path, max_new_tokens=1, callbacks=[figures], stop_ids=[tokenizer.eos_token_id])

    assert [line["completions/clipped_ratio"] for line in figures.lines[:2]] == [1.0, 1.0]
    assert largest_difference(before, weights_of(model)) == 0


def test_in_bf16_adapters_train_in_fp32_under_mixed_precision(tiny_model, tmp_path):
    (model, tokenizer), figures, kinds = trainable(tiny_model, precision="bf16"), Figures(), set()
    before, base = weights_of(model), weights_of(model, trained=False)
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda module, states, logits: kinds.add((torch.is_grad_enabled(), logits.dtype)))

    train(model, tokenizer, tmp_path, callbacks=[figures])

    assert {weight.dtype for weight in before.values()} == {torch.float32}
    assert {weight.dtype for weight in base.values()} == {torch.bfloat16}
    assert (True, torch.bfloat16) in kinds and {dtype for _, dtype in kinds} == {torch.bfloat16}
    assert largest_difference(before, weights_of(model)) > 1e-4
    assert largest_difference(base, weights_of(model, trained=False)) == 0
    assert figures.lines[0]["grad_norm"] > 0


@pytest.fixture
def quantised(tiny_model):
    return trainable(tiny_model, qlora=True)


def test_adapters_of_a_4_bit_model_train_in_fp32(quantised, tmp_path):
    trainer = policy_trainer(*quantised, tmp_path)

    assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_qlora_trains_the_adapter_and_leaves_the_4_bit_weights_alone(tiny_model, tmp_path, precision):
    (model, tokenizer), figures = trainable(tiny_model, qlora=True, precision=precision), Figures()
    before, base = weights_of(model), weights_of(model, trained=False)

    train(model, tokenizer, tmp_path, callbacks=[figures], learning_rate=1e-5)

    assert any(weight.dtype == torch.uint8 for weight in base.values())
    assert largest_difference(before, weights_of(model)) > 0
    assert all(torch.equal(weight, base[name]) for name, weight in weights_of(model, trained=False).items())
    assert figures.lines[0]["grad_norm"] > 0


def test_no_4_bit_layer_may_repack_itself_and_lose_its_gradient(quantised):
    from bitsandbytes.nn import Linear4bit

    model, _ = quantised
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    ids = torch.tensor([[70, 71, 72, 73]])

    def gradient():
        model.zero_grad()
        model.train()(input_ids=ids, labels=ids).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    before = gradient()
    with torch.no_grad():
        model.eval()(input_ids=ids)

    assert len(layers) == 14
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    assert torch.equal(gradient(), before)


def test_the_reference_of_a_kl_term_is_not_saved_with_the_adapter(tiny, tmp_path):
    model, tokenizer = tiny
    train(model, tokenizer, tmp_path, beta=0.1)

    save_adapter(model, tmp_path / "adapter")

    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
