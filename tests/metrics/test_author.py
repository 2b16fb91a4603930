import msgspec
import pytest

from prlm_cli.metrics.author import author
from tests.metrics.test_metrics import BASE


@pytest.mark.parametrize("found, expected", [(0.25, 0.25), (None, None), (msgspec.UNSET, None)])
def test_it_is_what_the_classifier_said_where_it_was_asked(found, expected):
    assert author(msgspec.structs.replace(BASE, author=found)) == expected
