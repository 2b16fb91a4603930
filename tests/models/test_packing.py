from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.models.packing import Tree, batches, ends, pack
from prlm_cli.models.tree_attention import NOBODY

_IDS = st.integers(1, 60)
TREES = st.lists(
    st.builds(
        Tree, st.lists(_IDS, min_size=1, max_size=6), st.lists(st.lists(_IDS, max_size=4), min_size=1, max_size=4)
    ),
    min_size=1,
    max_size=4,
)


@given(TREES)
def test_what_a_token_sees_reads_as_its_prompt_and_its_own_continuation(trees):
    rows = pack(trees)

    assert rows.input_ids.shape == (len(trees), max(tree.length for tree in trees))
    for row, tree in enumerate(trees):
        ids, positions, segments = (column[row] for column in rows)
        for number, continuation in enumerate(tree.continuations):
            end = ends(tree)[number]
            seen = ((segments == -1) | (segments == number)) & (torch.arange(len(ids)) <= end)
            assert ids[seen].tolist() == [*tree.prompt, *continuation]
            assert positions[seen].tolist() == list(range(len(tree.prompt) + len(continuation)))
        assert (segments[tree.length :] == NOBODY).all()  # what pads a row belongs to nobody


@given(lengths=st.lists(st.integers(1, 50), max_size=20), tokens=st.integers(1, 200))
def test_batches_hold_everything_once_similar_lengths_together_and_no_more_tokens_than_they_may(lengths, tokens):
    found = list(batches(lengths, tokens))

    assert sorted(n for batch in found for n in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[n] for n in batch) <= tokens for batch in found)
    in_order = [lengths[n] for batch in found for n in batch]
    assert in_order == sorted(in_order)
