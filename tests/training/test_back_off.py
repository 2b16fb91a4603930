from __future__ import annotations

import gc
import weakref

import pytest
import torch

from prlm_cli.core.errors import OutOfMemoryError
from prlm_cli.training.back_off import BackOff


def _back_off(notes, most=None):
    return BackOff("tokens of a pass", most, notes.append, hint="buy a card")


def _needs_at_most(back_off, fits, error, size=100):
    """Work of 100 in pieces of what is allowed, of which those above a size fail."""

    def work():
        piece = min(size, back_off.most or size)
        back_off.works_on(piece, is_smallest=piece == 1)
        if piece > fits:
            raise error
        return piece

    return work


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_work_is_done_again_with_half_as_much_until_it_fits(error):
    notes = []
    back_off = _back_off(notes)

    assert back_off.retried(_needs_at_most(back_off, 30, error)) == 25
    assert back_off.most == 25
    assert notes == [f"out of memory: at most {n} tokens of a pass from now on" for n in (50, 25)]


def test_what_was_learned_holds_for_the_next_work():
    notes = []
    back_off = _back_off(notes, most=64)
    work = _needs_at_most(back_off, 40, MemoryError())

    assert [back_off.retried(work) for _ in range(3)] == [32, 32, 32]
    assert len(notes) == 1


def test_what_cannot_be_smaller_is_one_clear_error():
    back_off = _back_off([], most=2)

    with pytest.raises(OutOfMemoryError, match=r"^not even 1 tokens of a pass fit into memory; buy a card$"):
        back_off.retried(_needs_at_most(back_off, 0, MemoryError()))


@pytest.mark.parametrize(
    ("most", "fits", "message"),
    [(50, 30, "50 tokens of a pass do not fit into memory; lower it"), (1, 0, "not even 1 tokens of .*; buy a card")],
)
def test_work_of_several_processes_is_not_done_again(most, fits, message):
    notes = []
    back_off = _back_off(notes, most)

    with pytest.raises(OutOfMemoryError, match=f"^{message}$"):
        back_off.once(_needs_at_most(back_off, fits, MemoryError()), hint="lower it")

    assert (back_off.most, notes) == (most, [])
    assert back_off.once(_needs_at_most(back_off, 100, MemoryError()), hint="lower it") == most


@pytest.mark.parametrize("way", ["retried", "once"])
def test_another_error_is_not_for_it(way):
    back_off = _back_off([])
    work = _needs_at_most(back_off, 0, RuntimeError("shapes differ"))

    with pytest.raises(RuntimeError, match="shapes"):
        back_off.retried(work) if way == "retried" else back_off.once(work, hint="lower it")


def test_the_tensors_of_what_did_not_fit_are_gone_when_it_is_done_again():
    back_off, seen = _back_off([]), []

    def work():
        large = torch.ones(8)
        seen.append((weakref.ref(large), [reference() is None for reference, _ in seen]))
        back_off.works_on(len(large), is_smallest=False)
        if len(seen) == 1:
            raise MemoryError
        return

    gc.disable()
    try:
        back_off.retried(work)
    finally:
        gc.enable()

    assert seen[1][1] == [True]
