import pytest

from prlm_cli.core.errors import MissingError
from prlm_cli.metrics import METRICS
from tests.metrics.generations import NASTY, answered, real_pairs

NAMES = {"rouge1_zh": "rouge-1", "rouge2_zh": "rouge-2", "rougeL_zh": "rouge-l"}


def _reference(answer, target):
    jieba, rouge_chinese = pytest.importorskip("jieba"), pytest.importorskip("rouge_chinese")
    jieba.setLogLevel("ERROR")
    words = [" ".join(jieba.cut(text)) for text in (answer, target)]
    return rouge_chinese.Rouge().get_scores(*words)[0]


def test_ngrams_count_once_and_punctuation_is_a_word():
    generation = answered("a a : b", "a : c")  # {a, :, b} and {a, :, c}; in order, a : of 4 and of 3

    assert METRICS["rouge1_zh"](generation) == pytest.approx(2 / 3, abs=1e-6)
    assert METRICS["rouge2_zh"](generation) == pytest.approx(0.4, abs=1e-6)  # one of {aa, a:, :b}, one of {a:, :c}
    assert METRICS["rougeL_zh"](generation) == pytest.approx(4 / 7, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_legacy_rouge_is_case_sensitive(name):
    assert METRICS[name](answered("A B", "a b")) == 0.0


@pytest.mark.parametrize("name", [*NAMES, "bleu_char"])
def test_legacy_metric_of_no_answer_is_zero(name):
    assert METRICS[name](answered(None, "a title")) == 0.0
    assert METRICS[name](answered("a title", None)) is None


@pytest.mark.parametrize("name", NAMES)
def test_legacy_rouge_equals_rouge_chinese_over_jieba(name, shared_data):
    nasty = [pair for pair in NASTY if pair[0].strip() and len(pair[0]) < 1000 and "日" not in pair[0]]

    for answer, target in [*real_pairs(shared_data)[::40], *nasty]:
        expected = _reference(answer, target)[NAMES[name]]["f"]
        assert METRICS[name](answered(answer, target)) == pytest.approx(expected, abs=1e-9)


def test_chinese_text_asks_for_jieba(monkeypatch):
    from prlm_cli.metrics import legacy

    monkeypatch.setitem(__import__("sys").modules, "jieba", None)
    legacy._jieba.cache_clear()

    with pytest.raises(MissingError, match=r"need jieba for Chinese text, .* pip install 'prlm\[paper\]'"):
        METRICS["rouge1_zh"](answered("中文", "a title"))
