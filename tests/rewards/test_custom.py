from __future__ import annotations

import pytest

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Retrieved
from prlm_cli.rewards import RewardContext
from prlm_cli.rewards.named import reward_named
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec

_CONTEXT = RewardContext(PromptBuilder(TASKS["titles"], "completion", False, 300, ByteCodec()))
_HERE = "tests.rewards.functions"
_QUERIES = [
    Retrieved(query_id=f"q{n}", user_id="u", text="t", target=target, profile=[], retriever="none")
    for n, target in enumerate(["a", None])
]


def _scored(function):
    return reward_named(f"{_HERE}:{function}")(_CONTEXT)(completions=["a private text", "b"], queries=_QUERIES)


def test_a_function_of_ones_own_scores_completions_with_their_queries():
    assert _scored("brevity") == [1 / 15, None]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("too_few", "returned 1 values for 2 completions"),
        ("not_finite", "is not finite for query q0"),
        ("of_texts", "returned a str for query q0"),
        ("nothing", "returned a NoneType"),
    ],
)
def test_what_is_not_one_finite_number_a_completion_is_an_error(function, message):
    with pytest.raises(SettingsError, match=f"^reward '{_HERE}:{function}' {message}; return a list") as caught:
        _scored(function)
    assert "private" not in str(caught.value)


def test_what_the_function_raises_is_not_swallowed():
    with pytest.raises(ZeroDivisionError, match="of its own"):
        _scored("failing")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests.rewards.nowhere:f", "cannot import tests.rewards.nowhere; install it, or set PYTHONPATH"),
        (f"{_HERE}:brevty", f"no function 'brevty' in {_HERE}"),
        (f"{_HERE}:NOT_A_FUNCTION", "no function 'NOT_A_FUNCTION'"),
        (f"{_HERE}:other_arguments", "cannot be called as one; name a function that takes completions and queries"),
        (":f", "is not package.module:function"),
        ("a..b:f", "is not package.module:function"),
        ("a.b:", "is not package.module:function"),
        ("a:b:c", "is not package.module:function"),
    ],
)
def test_a_name_that_is_no_reward_function_is_an_error(name, message):
    with pytest.raises(SettingsError, match=message):
        reward_named(name)


def test_an_unknown_metric_is_an_error_that_names_the_nearest():
    with pytest.raises(SettingsError, match="no metric 'rougel'; did you mean rougeL"):
        reward_named("metric:rougel")
