from __future__ import annotations

import os

import pytest

from prlm_cli.core import ranks

_LAUNCHED = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true"}


@pytest.fixture
def launched(monkeypatch):
    for name, value in _LAUNCHED.items():
        monkeypatch.setenv(name, value)


def test_without_a_launcher_there_is_one_process_which_is_the_main_one():
    assert (ranks.rank(), ranks.local_rank(), ranks.world_size(), ranks.is_main()) == (0, 0, 1, True)


def test_the_launcher_says_which_process_this_is(launched):
    assert (ranks.rank(), ranks.local_rank(), ranks.world_size(), ranks.is_main()) == (3, 1, 4, False)
    assert ranks.asks_for_fsdp()


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK"])
def test_a_size_that_a_cluster_sets_for_other_ends_counts_for_nothing(launched, monkeypatch, missing):
    monkeypatch.delenv(missing)

    assert (ranks.rank(), ranks.world_size(), ranks.is_main()) == (0, 1, True)


def test_alone_a_process_knows_of_no_others_until_the_block_ends(launched):
    with pytest.raises(ZeroDivisionError), ranks.alone():
        assert (ranks.rank(), ranks.world_size(), ranks.is_main()) == (0, 1, True)
        assert not set(_LAUNCHED) & set(os.environ)
        _ = 1 / 0

    assert {name: os.environ[name] for name in _LAUNCHED} == _LAUNCHED
