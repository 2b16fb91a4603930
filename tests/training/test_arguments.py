from __future__ import annotations

import os

from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training.arguments import common_arguments, keep_to_one_gpu


def _arguments(tmp_path, **fields):
    with quiet_libraries():
        return TrainingArguments(**common_arguments(tmp_path, steps=7, learning_rate=1e-4, seed=3), **fields)


def test_a_cpu_trains_in_fp32_without_checkpointing(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    arguments = _arguments(tmp_path)

    assert (arguments.bf16, arguments.use_cpu, arguments.gradient_checkpointing) == (False, True, False)


def test_a_cpu_computes_in_bf16_where_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    arguments = common_arguments(tmp_path, steps=1, learning_rate=1e-4, seed=0, bf16=True)

    assert (arguments["bf16"], arguments["use_cpu"]) == (True, True)


def test_nothing_is_reported_to_anybody(tmp_path):
    assert _arguments(tmp_path).report_to == []
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_figures_that_are_not_finite_are_logged_as_they_are(tmp_path):
    arguments = _arguments(tmp_path)

    assert (arguments.logging_nan_inf_filter, arguments.logging_steps) == (False, 1)


def test_the_seed_is_that_of_the_data_too(tmp_path):
    arguments = _arguments(tmp_path)

    assert (arguments.seed, arguments.data_seed, arguments.max_steps) == (3, 3, 7)


def test_checkpointing_is_what_is_said_and_else_on_where_there_is_a_gpu(tmp_path, monkeypatch):
    def checkpointing(setting):
        arguments = common_arguments(tmp_path, steps=1, learning_rate=1e-4, seed=0, gradient_checkpointing=setting)
        return arguments["gradient_checkpointing"]

    for has_gpu in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda has_gpu=has_gpu: has_gpu)
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
        assert [checkpointing(setting) for setting in ("on", "off", "auto")] == [True, False, has_gpu]


def test_a_process_that_sees_several_gpus_trains_on_one(tmp_path):
    arguments = _arguments(tmp_path, per_device_train_batch_size=3)
    arguments._n_gpu = 4
    assert arguments.train_batch_size == 12

    keep_to_one_gpu(arguments)

    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 3)


def test_the_optimiser_of_a_4_bit_model_is_paged_and_in_8_bits_on_a_gpu_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    found = {}
    for has_gpu in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda has_gpu=has_gpu: has_gpu)
        for quantised in (False, True):
            arguments = common_arguments(tmp_path, steps=1, learning_rate=1e-4, seed=0, quantised=quantised)
            found[has_gpu, quantised] = OptimizerNames(arguments["optim"])

    assert found.pop((True, True)) == OptimizerNames.PAGED_ADAMW_8BIT
    assert set(found.values()) == {OptimizerNames.ADAMW_TORCH}
