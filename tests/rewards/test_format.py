from __future__ import annotations

import pytest

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.settings import LAYOUTS
from prlm_cli.rewards import RewardContext
from prlm_cli.rewards.format import Format
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec


def _builder(layout="completion", *, reasoning, opens=False):
    return PromptBuilder(TASKS["titles"], layout, reasoning, 500, ByteCodec(opens_reasoning=opens))


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("They are short.\n</think>\nTitle: Trees", 1.0),
        ("They are short.</think>Trees", 1.0),
        ("<think>They are short.</think>Trees", 1.0),
        ("\n</think>\nTitle: Trees", 0.0),  # an empty thought
        ("They are short.", 0.0),
        ("They are short.\n</think>\n", 0.0),
        ("They are short.\n</think>\nTitle:", 0.0),
        ("a</think>b</think>Trees", 0.0),
        ("a<think>b</think>Trees", 0.0),
        ("<think><think>a</think>Trees", 0.0),
        ("a</think>Trees<think>", 0.0),
        ("", 0.0),
    ],
    ids=repr,
)
def test_the_form_of_a_completion_with_a_thought(completion, expected):
    assert Format(RewardContext(_builder(reasoning=True)))(completions=[completion], queries=[]) == [expected]


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (" Trees", 1.0),
        ("Title: Trees", 1.0),
        ("", 0.0),
        ("<think>why</think>Trees", 0.0),
        ("<answer>Trees</answer>", 0.0),
        ("word " * 65, 0.0),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_the_form_of_a_direct_answer(completion, expected):
    assert Format(RewardContext(_builder(reasoning=False)))(completions=[completion], queries=[]) == [expected]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reasoning", [True, False], ids=["reasoning", "direct"])
@pytest.mark.parametrize("opens", [True, False], ids=["template opens the thought", "template opens nothing"])
def test_what_a_perfect_policy_writes_has_the_form(layout, reasoning, opens):
    builder = _builder(layout, reasoning=reasoning, opens=opens)

    completions = [builder.completion("Trees", "They are short."), builder.completion("Trees: a view", "So.")]

    assert Format(RewardContext(builder))(completions=completions, queries=[]) == [1.0, 1.0]
