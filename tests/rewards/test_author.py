from __future__ import annotations

import pytest

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Retrieved
from prlm_cli.models.authorship import AuthorClassifier
from prlm_cli.rewards import REWARDS, RewardContext, Titles
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec
from tests.models.test_authorship import OTHERS, OWN

_BUILDER = PromptBuilder(TASKS["titles"], "completion", False, 300, ByteCodec())


def _query(user_id):
    return Retrieved(query_id=f"of {user_id}", user_id=user_id, text="t", profile=[], retriever="none")


def _scored(completions, users, titles):
    reward = REWARDS["author"](RewardContext(_BUILDER, titles=titles))
    return reward(completions=completions, queries=[_query(user_id) for user_id in users])


def test_each_answer_is_held_against_its_own_users_titles():
    titles = {"of coder": Titles(OWN, OTHERS), "of writer": Titles(OTHERS, OWN)}
    answers = [" net/mlx5: fix a race", " Deep Speech for Trees"]

    found = _scored(answers * 2, ["coder", "coder", "writer", "writer"], lambda query: titles[query.query_id])

    assert [value > 0.5 for value in found] == [True, False, False, True]
    assert found[0] == AuthorClassifier(OWN, OTHERS).probability("net/mlx5: fix a race")


def test_a_query_is_learnt_once_for_all_of_its_completions():
    asked = []

    _scored([" a", " b", " c"], ["coder", "writer", "coder"], lambda query: asked.append(query) or Titles(OWN, OTHERS))

    assert [query.user_id for query in asked] == ["coder", "writer"]


def test_without_an_answer_it_is_nobodys():
    assert _scored(["", " a"], ["coder"] * 2, lambda query: Titles(OWN, OTHERS))[0] == 0.0


@pytest.mark.parametrize("titles", [Titles(OWN[:3], OTHERS), Titles([], OTHERS), Titles(OWN, [])])
def test_it_does_not_apply_where_there_is_too_little_to_learn_from(titles):
    assert _scored([" net/mlx5: fix a race", ""], ["coder"] * 2, lambda query: titles) == [None, None]


def test_it_cannot_be_used_without_histories():
    with pytest.raises(SettingsError, match="needs the users' histories; use it in `prlm train-policy`"):
        REWARDS["author"](RewardContext(_BUILDER))
