from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.models.authorship import AuthorClassifier

OWN = ["net/mlx5: fix leak on close", "net/mlx5: fix crash", "net/mlx5: add counters", "net/mlx5: drop a lock"]
OTHERS = ["Deep Parsing of Trees", "Robust Speech Recognition", "Neural Alignment", "What is a grant?", "3 ways to go"]


@pytest.fixture(scope="module")
def classifier():
    return AuthorClassifier(OWN, OTHERS)


@pytest.mark.parametrize("text", ["net/mlx5: fix a race", "net/ice: fix leak"])
def test_what_is_like_the_users_titles_is_recognised(classifier, text):
    assert classifier.probability(text) > 0.5


@pytest.mark.parametrize("text", ["Deep Speech for Trees", "What is alignment?", "Grants: 12 ways"])
def test_what_is_like_the_others_is_not(classifier, text):
    assert classifier.probability(text) < 0.5


@settings(max_examples=25)
@given(st.text(max_size=30))
def test_any_text_has_a_probability(classifier, text):
    assert 0 <= classifier.probability(text) <= 1


def test_the_same_titles_give_the_same_classifier_and_many_others_do_not_outweigh_the_user():
    many = AuthorClassifier(OWN, OTHERS * 50)

    assert many.probability(OWN[0]) == AuthorClassifier(OWN, OTHERS * 50).probability(OWN[0])
    assert many.probability("net/mlx5: fix a race") > 0.5
