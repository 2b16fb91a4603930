from __future__ import annotations

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Retrieved
from prlm_cli.rewards import RewardContext
from prlm_cli.rewards.named import reward_named
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec


def _scored(name, completions, target="deep parsing", *, reasoning=False):
    builder = PromptBuilder(TASKS["titles"], "completion", reasoning, 300, ByteCodec())
    query = Retrieved(query_id="q", user_id="u", text="t", target=target, profile=[], retriever="none")
    return reward_named(name)(RewardContext(builder))(completions=completions, queries=[query] * len(completions))


def test_a_metric_scores_the_answer_of_each_completion():
    completions = [" deep parsing", " Deep Parsing\nand more", " parsing deep", ""]

    assert _scored("metric:exact_match", completions) == [1.0, 1.0, 0.0, 0.0]
    assert _scored("metric:rougeL", completions) == [1.0, 1.0, 0.5, 0.0]


def test_a_metric_sees_the_reasoning_apart_from_the_answer():
    completions = ["one two three\n</think>\nTitle: deep parsing", "never closed"]

    assert _scored("metric:reasoning_length", completions, reasoning=True) == [3.0, 2.0]
    assert _scored("metric:extract_fail", completions, reasoning=True) == [0.0, 1.0]


def test_where_the_metric_does_not_apply_the_reward_does_not():
    assert _scored("metric:rougeL", [" a"], target=None) == [None]
    assert _scored("metric:copy_rate", [" a"]) == [None]
