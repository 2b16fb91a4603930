from __future__ import annotations

import pytest
import torch

from prlm_cli.core.configuration import resolve
from prlm_cli.core.reporting import Silent
from prlm_cli.models.adapters import add_adapter, save_adapter
from prlm_cli.models.loading import load_base
from prlm_cli.pipeline.policies import load_policy


@pytest.mark.parametrize(("precision", "dtype"), [("auto", torch.float32), ("bf16", torch.bfloat16)])
def test_a_policy_that_answers_has_its_adapter_in_the_precision_of_its_base(tiny_model, tmp_path, precision, dtype):
    flags = {"model.name": str(tiny_model), "model.precision": precision}
    config = resolve(flags=flags | {"prompt.layout": "completion", "prompt.reasoning": "off"})
    save_adapter(add_adapter(load_base(tiny_model, config.model), config.model, seed=0), tmp_path)

    answers, trains = (
        load_policy(config, adapter=tmp_path, trainable=trainable, reporter=Silent()).model
        for trainable in (False, True)
    )

    assert {p.dtype for path, p in answers.named_parameters() if "lora_" in path} == {dtype}
    assert {p.dtype for path, p in trains.named_parameters() if "lora_" in path} == {torch.float32}
