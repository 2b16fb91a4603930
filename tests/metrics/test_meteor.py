import pytest

from prlm_cli.core.errors import MissingError
from prlm_cli.metrics import METRICS
from tests.metrics.generations import answered


def _has_wordnet():
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return False
    return True


def test_meteor_stem_matches_stems_but_not_synonyms():
    # Two of two words in one chunk: F 1, penalty 0.5 (1/2)^3.
    assert METRICS["meteor_stem"](answered("fixing leaks", "fixed leak")) == pytest.approx(1 - 0.5 / 8)
    assert METRICS["meteor_stem"](answered("car", "automobile")) == 0.0


def test_meteor_says_what_is_missing_and_what_to_take_instead():
    if _has_wordnet():
        pytest.skip("the data of WordNet is installed")
    with pytest.raises(MissingError, match=r"needs the data of WordNet, .* or take meteor_stem"):
        METRICS["meteor"](answered("car", "automobile"))


def test_meteor_matches_synonyms_where_wordnet_is():
    if not _has_wordnet():
        pytest.skip("the data of WordNet is not installed")
    assert METRICS["meteor"](answered("car", "automobile")) == 0.5
