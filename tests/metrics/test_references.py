"""Every metric that another library defines, against that library: on real pairs, on nasty ones, and on any text."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.translate.meteor_score import single_meteor_score
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from prlm_cli.metrics import METRICS
from tests.metrics.generations import NASTY, answered, real_pairs

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_ROUGE = RougeScorer(list(ROUGE), use_stemmer=False)
_BLEU, _CHRF = BLEU(force=True), CHRF()
_TOKENIZER = NLTKWordTokenizer()


class _NoWordNet:
    def synsets(self, _word):
        return []


def _meteor_stem(answer, target):
    words = [_TOKENIZER.tokenize(text) for text in (target, answer)]
    return single_meteor_score(*words, wordnet=_NoWordNet()) if all(words) else 0.0


def _bleu_char(answer, target):
    return sentence_bleu([list(target)], list(answer), smoothing_function=SmoothingFunction().method3)


@cache
def _all_rouge(answer, target):
    return _ROUGE.score(target, answer)


REFERENCES = {
    **{name: lambda answer, target, name=name: _all_rouge(answer, target)[name].fmeasure for name in ROUGE},
    "meteor_stem": _meteor_stem,
    "bleu": lambda answer, target: _BLEU.corpus_score([answer], [[target]]).score,
    "chrf": lambda answer, target: _CHRF.corpus_score([answer], [[target]]).score,
    "bleu_char": _bleu_char,
}
OF_A_CORPUS = {"bleu": _BLEU, "chrf": _CHRF}
TARGETS = st.text(min_size=1, max_size=40).map(str.strip).filter(bool)
pytestmark = pytest.mark.filterwarnings("ignore:\\nThe hypothesis contains 0 counts:UserWarning")


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(("answer", "target"), NASTY, ids=range(len(NASTY)))
def test_metric_equals_its_reference_on_nasty_pairs(name, answer, target):
    target = target.strip()
    assert METRICS[name](answered(answer, target)) == pytest.approx(REFERENCES[name](answer, target), abs=1e-9)


@pytest.mark.parametrize("name", REFERENCES)
@given(answer=st.text(max_size=40), target=TARGETS)
def test_metric_equals_its_reference_on_any_text(name, answer, target):
    assert METRICS[name](answered(answer, target)) == pytest.approx(REFERENCES[name](answer, target), abs=1e-9)


@pytest.mark.parametrize("name", REFERENCES)
def test_metric_equals_its_reference_on_real_pairs(name, shared_data):
    pairs = real_pairs(shared_data)
    assert len(pairs) > 5000

    for answer, target in pairs[::4]:  # the benchmark takes them all
        assert METRICS[name](answered(answer, target)) == pytest.approx(REFERENCES[name](answer, target), abs=1e-9)


@pytest.mark.parametrize("name", OF_A_CORPUS)
def test_sums_over_a_corpus_come_to_what_sacrebleu_says_of_it(name, shared_data):
    pairs = [*real_pairs(shared_data)[::4], *((answer, target.strip()) for answer, target in NASTY)]
    metric = METRICS[name]
    sums = np.sum([metric.statistics(answered(*pair)) for pair in pairs], axis=0, dtype=np.float64)
    answers, targets = zip(*pairs, strict=True)

    assert metric.value(sums) == pytest.approx(OF_A_CORPUS[name].corpus_score(answers, [targets]).score, abs=1e-9)


@pytest.mark.parametrize("name", OF_A_CORPUS)
def test_the_value_of_many_sums_at_once_is_that_of_each(name):
    metric = METRICS[name]
    rows = np.array([metric.statistics(answered(*pair)) for pair in NASTY], dtype=np.float64)

    together = metric.value(np.stack([rows, rows * 2]))

    assert together.shape == (2, len(NASTY))
    assert together[0].tolist() == [float(metric.value(row)) for row in rows]
