from __future__ import annotations

from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training import grpo
from prlm_cli.training.vllm import vllm_options
from tests.training.grpo_runs import settings


def test_vllm_writes_into_the_memory_of_the_longest_prompt_and_stops_where_we_stop(tmp_path):
    options = vllm_options(settings(rollouts="vllm"), max_tokens=321, stop_ids=[2, 7])

    with quiet_libraries():
        arguments = grpo._arguments(settings(), 5, 0, tmp_path, [1.0], **options)

    assert (arguments.use_vllm, arguments.vllm_mode, arguments.vllm_max_model_length) == (True, "colocate", 321)
    assert arguments.generation_kwargs == {"stop_token_ids": [2, 7]}


def test_without_it_nothing_is_said_of_it():
    assert vllm_options(settings(), max_tokens=321, stop_ids=[2, 7]) == {}
