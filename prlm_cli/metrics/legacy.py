"""What PrLM's released evaluation computes (preset `paper`), to compare with its numbers; neither ROUGE nor BLEU.

Of `rouge*_zh` the words are jieba's, punctuation among them, and n-grams count once however often they stand; F1 has
1e-8 in its denominator. `bleu_char` is the mean of NLTK's sentence BLEU over characters, white space among them; its
smoothing, method 3, is the customary one of that evaluation, as none is documented. Source: the method's released code
as facts (arXiv 2508.07342); `rouge_chinese` 1.0.3 computes the same.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

from rouge_score_rs.rouge_scorer import RougeScorer

from prlm_cli.core.errors import MissingError
from prlm_cli.core.records import Generation
from prlm_cli.metrics import target_of

_HAN = re.compile("[\u4e00-\u9fd5]")
# How jieba splits what is not Chinese: the few words of its dictionary, runs of letters and digits, runs of the signs
# that it allows in words, and every other character by itself.
_WORD = re.compile(r"AT&T|[cC](?:\+\+|#)|[a-zA-Z0-9]+(?:\.[0-9]+)?%?|[+#&._%\-]+|\S")
_TINY = 1e-8


def rouge1_zh(generation: Generation) -> float | None:
    """F1 of the sets of words of answer and target, in [0, 1], higher is better; None without a target."""
    return _shared_ngrams(generation, 1)


def rouge2_zh(generation: Generation) -> float | None:
    """F1 of the sets of pairs of neighbours, in [0, 1], higher is better; None without a target."""
    return _shared_ngrams(generation, 2)


def rouge_l_zh(generation: Generation) -> float | None:
    """F1 of the longest common subsequence of words, in [0, 1], higher is better; None without a target."""
    target = target_of(generation)
    if target is None:
        return None
    score = _LONGEST.score(target, generation.answer or "")["rougeL"]
    return _f1(score.precision, score.recall)


def bleu_char(generation: Generation) -> float | None:
    """BLEU-4 of the characters of one answer, in [0, 1], higher is better; None without a target."""
    from nltk.translate.bleu_score import sentence_bleu

    target = target_of(generation)
    if target is None:
        return None
    with warnings.catch_warnings():  # of answers that share no character
        warnings.simplefilter("ignore")
        return float(sentence_bleu([list(target)], list(generation.answer or ""), smoothing_function=_smoothing()))


class _Words:
    """The words of a text, as `RougeScorer` asks for them."""

    def tokenize(self, text: str) -> list[str]:
        return _words(text)


_LONGEST = RougeScorer(["rougeL"], tokenizer=_Words())


def _words(text: str) -> list[str]:
    if not _HAN.search(text):
        return _WORD.findall(text)
    return [word for word in _jieba().lcut(text) if not word.isspace()]


@cache
def _jieba() -> Any:
    try:
        import jieba
    except ImportError as error:
        raise MissingError(
            "metrics rouge1_zh, rouge2_zh and rougeL_zh need jieba for Chinese text, which is not installed",
            hint="pip install 'prlm[paper]'",
        ) from error
    jieba.setLogLevel("WARNING")  # it says on stderr that it loads its dictionary
    return jieba


@cache
def _smoothing() -> Any:
    from nltk.translate.bleu_score import SmoothingFunction

    return SmoothingFunction().method3


def _shared_ngrams(generation: Generation, n: int) -> float | None:
    target = target_of(generation)
    if target is None:
        return None
    answer, wanted = (_ngrams(_words(text), n) for text in (generation.answer or "", target))
    shared = len(answer & wanted)
    return _f1(shared / max(1, len(answer)), shared / max(1, len(wanted)))


def _ngrams(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)}


def _f1(precision: float, recall: float) -> float:
    return float(2 * precision * recall / (precision + recall + _TINY))
