from __future__ import annotations

import errno
import sys

import pytest

from prlm_cli.core import errors
from prlm_cli.core.errors import MissingError, OutOfMemoryError, SettingsError, StorageError
from prlm_cli.core.network import refuse_network
from prlm_cli.engines.cluster import cluster, report, result_of
from prlm_cli.pipeline.index_on_ray import Stored
from prlm_cli.pipeline.scatter import Scattered

_ERRORS = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.PrlmError)]


def _raises(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize("result", [Stored(rebuilt=3), Scattered(folder="/f", records=1, faults=1, first=[("m", "h")])])
def test_what_a_worker_gives_comes_back_as_it_was(result):
    assert result_of(report(lambda: result), type(result)) == result


@pytest.mark.parametrize("kind", _ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_of_ours_comes_back_as_it_was(kind):
    with pytest.raises(kind) as caught:
        result_of(report(_raises(kind("what", hint="do this"))), Stored)
    assert (type(caught.value), str(caught.value)) == (kind, "what; do this")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), StorageError, "/data/x: No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "a disk of the cluster: No space left"),
        (MemoryError(), OutOfMemoryError, "a Ray worker is out of memory"),
    ],
    ids=["disk", "some disk", "memory"],
)
def test_what_the_machine_lacks_comes_back_as_an_error_of_ours(error, kind, message):
    with pytest.raises(kind, match=message):
        result_of(report(_raises(error)), Stored)


def test_a_bug_in_a_worker_stays_one():
    with pytest.raises(ZeroDivisionError):
        report(_raises(ZeroDivisionError()))


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(MissingError, match=r"--engine ray needs Ray; pip install 'prlm\[ray\]'"), cluster():
        pass


def test_offline_and_ray_exclude_each_other():
    refuse_network()
    try:
        with pytest.raises(SettingsError, match="--engine ray and --offline"), cluster():
            pass
    finally:
        refuse_network(False)
