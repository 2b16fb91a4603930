"""A step's completions in passes of so many tokens; a pass is one forward and one backward computation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from prlm_cli.models.packing import batches


class Group(NamedTuple):
    """Rows of a step that have one prompt: their numbers, and their completions, none empty."""

    rows: list[int]
    prompt: list[int]
    completions: list[list[int]]

    @property
    def tokens(self) -> int:
        """Of the packed sequence: the prompt once, its last token again before each completion but that one's last."""
        return len(self.prompt) - 1 + sum(map(len, self.completions))


class Pass(NamedTuple):
    """Groups, or parts of one, that are computed at once, and the tokens of that computation, padding included."""

    groups: list[Group]
    tokens: int

    @property
    def completions(self) -> int:
        """How many there are."""
        return sum(len(group.rows) for group in self.groups)


def groups_of(input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int) -> list[Group]:
    """The rows with the same prompt together, without padding; a row whose completion is masked whole is in none.

    Args:
        input_ids: (B*G, P+C), prompts padded on the left and completions on the right.
        attention_mask: (B*G, P+C).
        completion_length: C.
    """
    groups: dict[tuple[int, ...], Group] = {}
    for row, (ids, mask) in enumerate(zip(input_ids.tolist(), attention_mask.tolist(), strict=True)):
        prompt = [token for token, m in zip(ids[:-completion_length], mask[:-completion_length], strict=True) if m]
        completion = [token for token, m in zip(ids[-completion_length:], mask[-completion_length:], strict=True) if m]
        if completion:
            group = groups.setdefault(tuple(prompt), Group([], prompt, []))
            group.rows.append(row)
            group.completions.append(completion)
    return list(groups.values())


def packed_passes(groups: Sequence[Group], most: int | None) -> list[Pass]:
    """Passes of packed groups.

    Args:
        groups: Of a step.
        most: Tokens of a pass. As many whole groups as fit are computed together; one that does not fit is computed in
            parts, of one completion at the least. None: each group is a pass.
    """
    if most is None:
        return [Pass([group], group.tokens) for group in groups]
    parts = [part for group in groups for part in _parts(group, most)]
    lengths = [part.tokens for part in parts]
    return [
        Pass([parts[n] for n in batch], len(batch) * max(lengths[n] for n in batch)) for batch in batches(lengths, most)
    ]


def row_passes(groups: Sequence[Group], width: int, most: int | None) -> list[Pass]:
    """Passes of rows that each have their own prompt.

    Args:
        groups: Of a step.
        width: Tokens of a row, padding included.
        most: Tokens of a pass, which has one row at the least. None: as many rows as a group has.
    """
    rows = [
        Group([row], group.prompt, [completion])
        for group in groups
        for row, completion in zip(group.rows, group.completions, strict=True)
    ]
    at_once = max((len(group.rows) for group in groups), default=1) if most is None else max(1, most // width)
    return [Pass(rows[n : n + at_once], width * len(rows[n : n + at_once])) for n in range(0, len(rows), at_once)]


def _parts(group: Group, most: int) -> list[Group]:
    """The group in as few even parts as fit; of one completion each where no others do."""
    for number in range(1, len(group.rows) + 1):
        size = math.ceil(len(group.rows) / number)
        parts = [
            Group(group.rows[n : n + size], group.prompt, group.completions[n : n + size])
            for n in range(0, len(group.rows), size)
        ]
        if max(part.tokens for part in parts) <= most:
            break
    return parts
