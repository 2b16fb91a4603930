# ruff: noqa: RUF001 - ambiguous characters are what these tests are about
from __future__ import annotations

import copy
import json
import subprocess
import sys
import unicodedata
from collections import Counter
from hashlib import blake2b

import bm25s
import pytest
from bm25s.stopwords import STOPWORDS_EN
from bm25s.tokenization import _infer_stopwords
from hypothesis import given
from hypothesis import strategies as st
from Stemmer import Stemmer

from prlm_cli.core import terms
from prlm_cli.core.errors import MissingError, SettingsError
from prlm_cli.core.stop_words import stop_words
from prlm_cli.core.terms import LANGUAGES, STOP_WORDS, Tokenizer, fingerprint_of, tokenizer

_ENGLISH = tokenizer("english")
_LISTED = [
    *("danish", "dutch", "french", "german", "italian", "norwegian", "portuguese", "russian", "spanish", "swedish"),
    "turkish",
]

# What is hard to cut: letters whose case depends on their place, marks that join an ASCII separator or each other,
# characters that turn into ASCII, lone surrogates, separators beyond ASCII, and scripts of every kind.
_HARD = (
    "aB1_ \n\t\x1c.'-:^<=>≠;Σσς\u0345\u0301\u0338\u0307İıIiJ\u030c\u037e\u212a\u1fef\ufeffǰé’—\xa0\u2028\u200d\ufe0f"
    "\ud800\udfff"
)
_SCRIPTS = "กที่ำวのガﾞ々模型한각\u1100\u1161हिन्தமி\u09c7\u09beשָЖжحً𠀀𝑥"
_TEXTS = st.text(st.characters()) | st.text(_HARD) | st.text(_HARD + _SCRIPTS)
_LATIN = st.text(st.characters(max_codepoint=0x24F, exclude_characters="İ")) | st.lists(
    st.sampled_from(["The", "parsers", "parsing", "of", "über-alles", "a1", "x", "_id", "don't", "naïve—and"])
).map(" ".join)


def _words_of_bm25s(text: str) -> list[str]:
    stem = Stemmer("english").stemWords
    return bm25s.tokenize([text], stemmer=stem, return_ids=False, show_progress=False)[0]


def _hash(stem: str) -> int:
    return int.from_bytes(blake2b(stem.encode(), digest_size=8).digest(), "little")


@given(_LATIN)
def test_english_words_are_those_of_bm25s_defaults(text):
    assert _ENGLISH.words(text) == _words_of_bm25s(text)


@pytest.mark.parametrize("corpus", ["acl", "commits", "govblog"])
def test_words_of_real_texts_are_those_of_bm25s_defaults(shared_data, corpus):
    with (shared_data / corpus / "profiles.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(500), strict=False)]
    latin = [text for text in texts if not any(c > "\u0300" and unicodedata.category(c)[0] in "LM" for c in text)]

    assert len(latin) > 0.9 * len(texts)
    for text in latin:
        assert _ENGLISH.words(text) == _words_of_bm25s(text)


@given(_TEXTS, st.sampled_from(LANGUAGES))
def test_terms_are_the_sorted_hashes_of_the_words(text, language):
    its = tokenizer(language)

    assert list(its.terms(text)) == sorted(map(_hash, its.words(text)))


@given(_TEXTS)
def test_a_text_has_the_same_words_composed_and_decomposed(text):
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))

    assert tokenizer("none").words(text) == tokenizer("none").words(composed) == tokenizer("none").words(decomposed)
    assert _ENGLISH.terms(composed) == _ENGLISH.terms(decomposed)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("深度学习模型，很好。的", ["深度", "度学", "学习", "习模", "模型", "很好", "的"]),
        ("日本語のガ", ["日本", "本語", "語の", "のガ"]),
        ("ガ", ["ガ"]),
        ("한국어 글", ["한국", "국어", "글"]),
        ("ที่ดี ก", ["ที่ดี", "ก"]),
        ("BERT模型v2", ["bert", "模型", "v2"]),
        ("हिन्दी में लिखना", ["हिन्दी", "में", "लिखना"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("foo—bar’s “x”", ["foo", "bar"]),
        ("Naïve NAI\u0308VE", ["naïve", "naïve"]),
        ("İzmir IZMIR", ["izmir", "izmir"]),
        ("ΟΔΟΣ'Α ΟΔΟΣ", ["οδοσ", "οδοσ"]),
        ("=\u0338ab c\u0338\u0338", ["ab", "c\u0338\u0338"]),
        ("a é 1 _ \ud800 ab\udfffcd", ["ab", "cd"]),
        ("", []),
    ],
)
def test_words_of_many_scripts(text, words):
    assert tokenizer("none").words(text) == words
    assert _ENGLISH.terms(text) == _ENGLISH.terms(" ".join(words))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_stems_in_its_own_way_and_says_so(language):
    its = tokenizer(language)
    text = "runningly Häuserchen nacionales дорогами बच्चों бабушками"
    stems = text.lower().split() if language == "none" else Stemmer(language).stemWords(text.lower().split())

    assert its.language == language
    assert its.words(text) == stems
    assert its.fingerprint not in {tokenizer(other).fingerprint for other in LANGUAGES if other != language}


@pytest.mark.parametrize("language", [*_LISTED, "english"])
def test_stop_words_are_those_of_bm25s_and_are_left_out(language):
    listed = _infer_stopwords(language)

    assert stop_words(language) == set(listed)
    assert tokenizer(language).words(" ".join(word for word in listed if word.isalpha())) == []


def test_other_languages_have_no_stop_words():
    assert [name for name in LANGUAGES if stop_words(name)] == sorted([*_LISTED, "english", "dutch_porter"])
    assert tokenizer("none").words("the of") == ["the", "of"]
    assert set(STOPWORDS_EN) == STOP_WORDS


def test_a_word_of_which_the_stemmer_leaves_nothing_is_left_out():
    assert Stemmer("nepali").stemWord("का") == ""
    assert tokenizer("nepali").words("का घर") == tokenizer("nepali").words("घर") != []
    assert len(tokenizer("nepali").terms("का घर")) == 1


def test_stop_words_are_read_without_importing_bm25s():
    code = (
        "import sys; from prlm_cli.core.terms import tokenizer; tokenizer('german').terms('der Häuser');"
        "print({'bm25s', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout == "set()\n"


def test_stop_words_of_a_bm25s_that_is_not_there_are_missed(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)

    with pytest.raises(MissingError, match="stop words of bm25s"):
        stop_words("german")
    assert stop_words("english") == STOP_WORDS


def test_tokenizers_are_kept_and_unknown_languages_are_refused():
    assert tokenizer("german") is tokenizer("german")
    assert "none" in LANGUAGES and "porter" not in LANGUAGES
    with pytest.raises(SettingsError, match=r"no language 'germann'; did you mean german\?"):
        tokenizer("germann")


@given(st.lists(st.sampled_from(["parse", "tree", "grammar", "the", "of", "noise", "foo—bar"])))
def test_terms_do_not_depend_on_word_order_and_keep_repeats(words):
    found = _ENGLISH.terms(" ".join(words))

    assert found == _ENGLISH.terms(",".join(reversed(words)).upper())
    assert len(found) == sum(word not in ("the", "of") for word in words) + words.count("foo—bar")


@given(st.lists(_TEXTS, max_size=5))
def test_what_is_kept_stays_within_bounds_and_changes_nothing(texts):
    text = "\n".join(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terms, "_MAX_KEPT", 4)
        forgetful = Tokenizer("english")

        assert forgetful.terms(text) == forgetful.terms(text) == _ENGLISH.terms(text)
        assert len(forgetful._hashes) <= 4


def test_a_long_piece_is_not_kept():
    its = Tokenizer("english")

    assert len(its.terms("模型" * 1000)) == 1999
    assert len(its._hashes) == 0


@given(st.text(), st.text())
def test_fingerprints_are_equal_exactly_for_texts_equal_but_for_white_space(one, other):
    assert (fingerprint_of(one) == fingerprint_of(other)) == (one.split() == other.split())
    assert fingerprint_of(one) == fingerprint_of(f" {one}\n")
    assert len(fingerprint_of(one)) == 8


@given(_TEXTS)
def test_counts_are_those_of_the_terms_and_many_texts_give_what_each_gives(text):
    english = tokenizer("english")

    assert english.counts(text) == Counter(english.terms(text))
    many = [text, "", f"{text} {text}"] * 200
    assert english.packed_terms(many) == [english.terms(one).tobytes() for one in many]


def test_a_tokenizer_that_came_from_another_process_is_the_one_that_is_here():
    known = tokenizer("english")

    # Whatever carries it takes it apart and builds it anew in this way, as copying does.
    assert copy.deepcopy(known) is known
