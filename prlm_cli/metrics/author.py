"""What classifiers of authors said, where `prlm score --author` asked them."""

from __future__ import annotations

import msgspec

from prlm_cli.core.records import Generation


def author(generation: Generation) -> float | None:
    """How surely the answer is recognised as the user's and not another user's, in [0, 1], higher is better.

    None where it was not asked, or the user has too few titles to be known by.
    """
    return None if generation.author is msgspec.UNSET else generation.author
