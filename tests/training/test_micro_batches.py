from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.training.micro_batches import Group, groups_of, packed_passes, row_passes


def test_rows_of_one_prompt_are_a_group_and_one_that_was_cut_is_in_none():
    ids = torch.tensor([[0, 7, 8, 1, 2, 0], [5, 6, 7, 3, 0, 0], [0, 7, 8, 4, 5, 6], [5, 6, 7, 9, 9, 9]])
    mask = torch.tensor([[0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])

    assert groups_of(ids, mask, 3) == [Group([0, 2], [7, 8], [[1, 2], [4, 5, 6]]), Group([1], [5, 6, 7], [[3]])]


def test_the_tokens_of_a_group_are_those_of_its_packed_sequence():
    # p1 | p2 c1 c2 | p2 | and the last token of each completion is read by nobody.
    assert Group([0, 1], [7, 8], [[1, 2, 3], [4]]).tokens == 5


@st.composite
def steps(draw):
    """Groups of one step, numbered through."""
    row = 0
    found = []
    for shape in draw(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4)):
        found.append(
            Group(list(range(row, row + len(shape))), [1] * draw(st.integers(1, 20)), [[2] * n for n in shape])
        )
        row += len(shape)
    return found


@given(groups=steps(), most=st.none() | st.integers(1, 120))
def test_every_completion_is_in_one_pass_which_is_too_large_only_if_it_has_no_other(groups, most):
    passes = packed_passes(groups, most)

    rows = [row for one in passes for group in one.groups for row in group.rows]
    assert sorted(rows) == [row for group in groups for row in group.rows]
    for one in passes:
        assert one.tokens == len(one.groups) * max(group.tokens for group in one.groups)
        assert most is None or one.tokens <= most or one.completions == 1


@given(groups=steps(), most=st.integers(1, 120))
def test_a_group_that_fits_stays_whole(groups, most):
    parts = [group for one in packed_passes(groups, most) for group in one.groups]

    assert all(group in parts for group in groups if group.tokens <= most)


def test_a_group_that_does_not_fit_is_cut_into_as_few_even_parts_as_fit():
    group = Group(list(range(6)), [1] * 11, [[2] * 5 for _ in range(6)])  # 10 and 5 a completion

    assert [one.tokens for one in packed_passes([group], 30)] == [25, 25]
    assert [one.groups[0].rows for one in packed_passes([group], 30)] == [[0, 1, 2], [3, 4, 5]]
    assert [one.completions for one in packed_passes([group], 1)] == [1] * 6


def test_without_a_limit_each_group_is_a_pass_and_with_one_small_groups_share_it():
    groups = [Group([0], [1] * 10, [[2] * 3]), Group([1], [3] * 9, [[2] * 3])]

    assert [one.completions for one in packed_passes(groups, None)] == [1, 1]
    assert [(one.completions, one.tokens) for one in packed_passes(groups, 24)] == [(2, 24)]


@given(groups=steps(), width=st.integers(1, 30), most=st.none() | st.integers(1, 120))
def test_rows_with_a_prompt_each_are_as_many_as_fit(groups, width, most):
    passes = row_passes(groups, width, most)

    rows = [row for one in passes for group in one.groups for row in group.rows]
    assert rows == [row for group in groups for row in group.rows]
    for one in passes:
        assert one.tokens == width * one.completions
        assert most is None or one.tokens <= most or one.completions == 1
    if most is None:
        assert passes[0].completions == min(len(rows), max(len(group.rows) for group in groups))
