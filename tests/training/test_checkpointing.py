"""Gradient checkpointing changes what is kept, not what is learned."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainingArguments

from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training.arguments import common_arguments
from prlm_cli.training.shared_prefix import score_group
from tests.bench.training_parts.plan import kept_bytes
from tests.training.tiny import largest_difference, trainable


@pytest.fixture
def model(tiny_model):
    found, _ = trainable(tiny_model)
    torch.manual_seed(0)
    for name, parameter in found.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return found.train()


def _sum_of_logps(model):
    completions = [[70, 71, 72], [73], [74, 75]]
    return torch.stack([one.logps.sum() for one in score_group(model, list(range(60, 90)), completions, 0.7)]).sum()


def _gradients(model):
    model.zero_grad()
    _sum_of_logps(model).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def test_the_gradient_of_a_packed_group_is_the_same_and_less_is_kept(model):
    plain, kept = _gradients(model), kept_bytes(model, lambda: _sum_of_logps(model))

    with quiet_libraries():
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()

    assert max(float(gradient.abs().max()) for gradient in plain.values()) > 1e-3
    assert largest_difference(plain, _gradients(model)) < 1e-5
    assert kept_bytes(model, lambda: _sum_of_logps(model)) < 0.7 * kept


@pytest.mark.parametrize("setting", ["on", "off"])
def test_the_trainer_is_told(tmp_path, setting):
    with quiet_libraries():
        arguments = TrainingArguments(
            **common_arguments(tmp_path, steps=1, learning_rate=1e-4, seed=0, gradient_checkpointing=setting)
        )

    assert arguments.gradient_checkpointing is (setting == "on")
