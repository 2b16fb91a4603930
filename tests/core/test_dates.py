from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.dates import parse_period

_DAYS = st.dates()
_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def _us(*moment: int) -> int:
    return (datetime(*moment, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("date", "start", "end"),
    [
        ("2024", _us(2024, 1, 1), _us(2025, 1, 1) - 1),
        ("2024-02", _us(2024, 2, 1), _us(2024, 3, 1) - 1),
        ("2023-02", _us(2023, 2, 1), _us(2023, 3, 1) - 1),
        ("2024-12", _us(2024, 12, 1), _us(2025, 1, 1) - 1),
        ("2024-02-29", _us(2024, 2, 29), _us(2024, 3, 1) - 1),
        (" 2024-05-17\n", _us(2024, 5, 17), _us(2024, 5, 18) - 1),
        ("9999", _us(9999, 1, 1), _us(9999, 12, 31, 23, 59, 59, 999_999)),
        ("0001-01-01", _us(1, 1, 1), _us(1, 1, 2) - 1),
        ("2024-05-17T10:00", _us(2024, 5, 17, 10), _us(2024, 5, 17, 10)),
        ("2024-05-17 10:00:00.000001", _us(2024, 5, 17, 10) + 1, _us(2024, 5, 17, 10) + 1),
        ("2024-05-17T10:00:00Z", _us(2024, 5, 17, 10), _us(2024, 5, 17, 10)),
        ("2024-05-17T01:00:00+02:00", _us(2024, 5, 16, 23), _us(2024, 5, 16, 23)),
        ("2024-05-16T23:00:00-0530", _us(2024, 5, 17, 4, 30), _us(2024, 5, 17, 4, 30)),
        (0, 0, 0),
        (-1, -1_000_000, -1_000_000),
        (1.5, 1_500_000, 1_500_000),
    ],
)
def test_a_date_covers_the_period_that_it_names(date, start, end):
    assert parse_period(date) == (start, end)


@pytest.mark.parametrize("date", ["20240517", "2024-W20", "2024-W20-5"])
def test_every_date_without_a_time_covers_its_whole_day(date):
    start, end = parse_period(date)

    assert end - start >= 86_400_000_000 - 1
    assert start <= _us(2024, 5, 17, 12) <= end


_NO_DATES = [
    "",
    " ",
    "yesterday",
    "2024-13",
    "2024-00",
    "2023-02-29",
    "2024-5-7",
    "0000",
    "17.05.2024",
    "2024-05-17T25:00",
]
_NO_EPOCH_SECONDS = ["1512010112345", "1700000000", float("nan"), float("inf"), 1e18, 1_700_000_000_000]


@pytest.mark.parametrize("date", [*_NO_DATES, *_NO_EPOCH_SECONDS])
def test_what_is_no_date_is_refused(date):
    with pytest.raises((ValueError, OverflowError, OSError)):
        parse_period(date)


@given(day=_DAYS, time=st.times(), zone=_ZONES)
def test_a_moment_lies_in_its_own_day_month_and_year(day, time, zone):
    moment = datetime.combine(day, time, tzinfo=UTC)
    instant = parse_period(moment.isoformat())

    assert instant.start == instant.end
    for width in (4, 7, 10):
        period = parse_period(moment.isoformat()[:width])
        assert period.start <= instant.start <= period.end
    if 2 < day.year < 9998:  # the same moment as told elsewhere
        assert parse_period(moment.astimezone(zone).isoformat()) == instant


@given(first=_DAYS, second=_DAYS, widths=st.tuples(*[st.sampled_from([4, 7, 10])] * 2))
def test_one_period_ends_before_another_starts_exactly_where_its_name_sorts_first(first, second, widths):
    a, b = first.isoformat()[: widths[0]], second.isoformat()[: widths[1]]
    common = min(widths)

    assert (parse_period(a).end < parse_period(b).start) == (a[:common] < b[:common])
