"""What a suite comes to: figures with intervals, and a record for each query."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from prlm_cli.metrics.intervals import Interval


class Figure(msgspec.Struct, frozen=True):
    """One figure: `of` says of which part, such as a kind of question or a judge; `low` and `high` as in `Interval`."""

    name: str
    of: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0

    @classmethod
    def with_interval(cls, name: str, of: str, interval: Interval | None) -> Figure:
        """The figure of a mean; n/a where there is none."""
        if interval is None:
            return cls(name, of, None)
        bounded = not math.isinf(interval.low)  # one user says nothing of others
        low, high = (interval.low, interval.high) if bounded else (None, None)
        return cls(name, of, interval.mean, low, high, interval.n)


@dataclass(frozen=True)
class SuiteResult:
    """A suite's figures; `notes` say what could not be measured."""

    suite: str
    policy: str
    n: int
    users: int
    figures: Sequence[Figure]
    records: Sequence[msgspec.Struct]
    notes: Sequence[str] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        """The result without the records of the single queries, as JSON takes it."""
        facts = {name: getattr(self, name) for name in ("suite", "policy", "n", "users")}
        return facts | {"figures": [msgspec.structs.asdict(one) for one in self.figures], "notes": list(self.notes)}
