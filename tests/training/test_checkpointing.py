"""Gradient checkpointing changes what is kept, not what is learned."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from prlm_cli.pipeline.train_policy import train_policy
from tests.pipeline.small import indexed, small
from tests.training.tiny import largest_difference

_FEW = ("warm_start.kind=none", "policy.reward_model=none", "policy.eval_queries=0", "policy.max_new_tokens=4")


def test_grpo_trains_the_same_with_and_without_it(tiny_model, tmp_path):
    workspace = indexed(tmp_path)

    def trained(setting: str) -> dict[str, torch.Tensor]:
        config = small(tiny_model, *_FEW, f"policy.gradient_checkpointing={setting}")
        return load_file(train_policy(workspace, config).adapter / "adapter_model.safetensors")

    plain, checkpointed = trained("off"), trained("on")
    assert max(float(weight.abs().max()) for name, weight in plain.items() if "lora_B" in name) > 1e-3  # it learned
    assert largest_difference(plain, checkpointed) < 1e-5
