from __future__ import annotations

from xml.etree import ElementTree

from prlm_cli.pipeline.score_by_size import Sized, size_chart


def _chart(series):
    html = size_chart("title", "records", "rougeL", series, 100, 0)
    return html and ElementTree.fromstring(html)


def _spans(chart):
    words = [text.text for text in chart.iter("text")]
    return words[: words.index("0.0") if "0.0" in words else None]


def test_there_is_a_point_for_each_size_at_its_mean():
    rows = [Sized(size, value, f"u{n}") for n, (size, value) in enumerate([(0, 0.0), (0, 0.5), (4, 1.0), (4, 0.5)])]
    chart = _chart({"A": rows})

    (line,) = chart.iter("polyline")
    assert len(line.get("points").split()) == 2
    assert [text.text for text in chart.iter("text")][:2] == ["0", "4"]
    assert list(chart.iter("polygon"))


def test_many_sizes_make_groups_of_about_as_many_rows():
    rows = [Sized(size, 0.5, f"u{size}") for size in range(600)]
    words = [text.text for text in _chart({"A": rows}).iter("text")]

    assert words[:6] == ["0-99", "100-199", "200-299", "300-399", "400-499", "500-599"]


def test_one_size_or_none_makes_no_chart():
    assert _chart({"A": [Sized(3, 0.5, "u"), Sized(3, 0.2, "v")]}) is None
    assert _chart({"A": []}) is None


def test_a_size_of_one_user_has_no_band():
    rows = [Sized(0, 0.5, "u"), Sized(1, 0.5, "u")]

    assert not list(_chart({"A": rows}).iter("polygon"))


def test_each_series_has_a_line_over_the_sizes_that_it_has():
    chart = _chart({"A": [Sized(0, 0.1, "u"), Sized(1, 0.2, "v")], "B": [Sized(1, 0.3, "u")]})

    assert [len(line.get("points").split()) for line in chart.iter("polyline")] == [2, 1]
