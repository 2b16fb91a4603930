"""Dates as periods: a date that names a month is the whole month, so "strictly older" can be decided for it.

All instants are microseconds since the epoch, UTC.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, time, timedelta
from datetime import date as date_type
from functools import lru_cache
from typing import NamedTuple

_PARTIAL = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_WEEK = re.compile(r"\d{4}-?W\d{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Period(NamedTuple):
    """The first and the last instant that a date covers, both in microseconds, UTC, inclusive."""

    start: int
    end: int


@lru_cache(maxsize=2**14)  # many records bear the same day
def parse_period(date: str | int | float) -> Period:
    """The period that an ISO 8601 date or a number of epoch seconds states.

    `2024` covers the year, `2024-05` the month, `2024-05-17` the day, a date with a time that instant (UTC where it
    names no zone).

    Raises:
        ValueError: If the date is neither.
    """
    if isinstance(date, int | float):
        instant = _microseconds(datetime.fromtimestamp(date, tz=UTC))
        return Period(instant, instant)
    text = date.strip()
    if match := _PARTIAL.fullmatch(text):
        year, month, day = (int(part) if part else None for part in match.groups())
        assert year is not None
        first = datetime(year, 1 if month is None else month, 1 if day is None else day, tzinfo=UTC)
        last_month = month or 12
        last = datetime(year, last_month, day or _days_of(year, last_month), 23, 59, 59, 999_999, tzinfo=UTC)
        return Period(_microseconds(first), _microseconds(last))
    with contextlib.suppress(ValueError):  # 20240517, 2024-W20-5: days as well; 2024-W20 is a week
        first = datetime.combine(date_type.fromisoformat(text), time(), tzinfo=UTC)
        days = 7 if _WEEK.fullmatch(text) else 1
        return Period(_microseconds(first), _microseconds(first + timedelta(days=days)) - 1)
    if text[:8].isdigit() and text[8:9].isdigit():
        raise ValueError("a number of epoch seconds is not quoted")
    moment = datetime.fromisoformat(text)
    instant = _microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return Period(instant, instant)


def _days_of(year: int, month: int) -> int:
    from calendar import monthrange

    return monthrange(year, month)[1]


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
