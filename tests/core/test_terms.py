from __future__ import annotations

from collections import Counter

import bm25s
import pytest
from bm25s.stopwords import STOPWORDS_EN
from hypothesis import given
from hypothesis import strategies as st
from Stemmer import Stemmer

from prlm_cli.core import terms
from prlm_cli.core.terms import fingerprint_of

_stem = Stemmer("english").stemWord


def _words_of_bm25s(text: str) -> list[str]:
    return bm25s.tokenize([text], stemmer=_stem_all, return_ids=False, show_progress=False)[0]


def _stem_all(words: list[str]) -> list[str]:
    return [_stem(word) for word in words]


@given(
    st.text()
    | st.lists(st.sampled_from(["The", "parsers", "parsing", "of", "über-alles", "a1", "x", "_id"])).map(" ".join)
)
def test_terms_are_the_words_of_bm25s_defaults(text):
    of_words = {word: terms.terms(word) for word in _words_of_bm25s(text)}
    expected = Counter(_words_of_bm25s(text))

    assert sorted(Counter(terms.terms(text)).values()) == sorted(expected.values())
    assert len(terms.terms(text)) == sum(expected.values())
    assert all(len(found) <= 1 for found in of_words.values())


@pytest.mark.parametrize(("one", "other"), [("Parsers PARSE", "parse parser"), ("naïve", "NAÏVE"), ("x y 2", "")])
def test_case_and_single_characters_make_no_difference(one, other):
    assert terms.terms(one) == terms.terms(other)


def test_stop_words_are_those_of_bm25s_and_are_left_out():
    assert len(terms.terms(" ".join(STOPWORDS_EN))) == 0


@given(st.lists(st.sampled_from(["parse", "tree", "grammar", "the", "of", "noise"])))
def test_terms_do_not_depend_on_word_order_and_keep_repeats(words):
    found = terms.terms(" ".join(words))

    assert found == terms.terms(" ".join(reversed(words)))
    assert list(found) == sorted(found)
    assert len(found) == sum(word not in ("the", "of") for word in words)


def test_terms_are_the_same_after_the_cache_was_emptied(monkeypatch):
    before = terms.terms("parsing of trees")
    monkeypatch.setattr(terms, "_MAX_CACHED", -1)

    assert terms.terms("parsing of trees") == before


@given(st.text(), st.text())
def test_fingerprints_are_equal_exactly_for_texts_equal_but_for_white_space(one, other):
    assert (fingerprint_of(one) == fingerprint_of(other)) == (one.split() == other.split())
    assert fingerprint_of(one) == fingerprint_of(f" {one}\n")
    assert len(fingerprint_of(one)) == 8
