from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.report.charts import Axis, Bar, Line, bar_chart, line_chart, steps, ticks

_X, _Y = Axis("n", [(0, "1"), (1, "2"), (2, "4")]), Axis("ROUGE-L", steps(0, 1))


def _chart(*lines, x=_X, y=_Y):
    return ElementTree.fromstring(line_chart("a chart", lines, x, y))


def _places(chart):
    return [[tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in chart.iter("polyline")]


def test_a_line_goes_through_its_points_and_up_is_more():
    (line,) = _places(_chart(Line("chosen", [(0, 0), (1, 0.5), (2, 1)])))

    assert line == [(48, 220), (198, 116), (348, 12)]


def test_what_others_are_held_against_is_dashed_and_has_no_marks():
    chart = _chart(Line("chosen", [(0, 0), (2, 1)]), Line("random", [(0, 0.5), (2, 0.5)], "reference"))

    assert [line.get("class") for line in chart.iter("polyline")] == ["line0", "reference"]
    assert len(list(chart.iter("circle"))) == 2


def test_axes_say_what_they_are_and_more_than_one_line_has_a_legend():
    one, two = _chart(Line("chosen", [(0, 0)])), _chart(Line("chosen", []), Line("oracle", []))

    words = [[text.text for text in chart.iter("text")] for chart in (one, two)]
    assert {"n", "ROUGE-L", "1", "2", "4", "0.00", "1.00"} <= {*words[0]}
    assert "chosen" not in words[0]
    assert {"chosen", "oracle"} <= {*words[1]}


def test_an_axis_of_one_value_has_its_points_in_the_middle():
    ((place,),) = _places(_chart(Line("a", [(0, 0.3)]), x=Axis("n", [(0, "1")]), y=Axis("y", steps(0.3, 0.3))))

    assert place == (198, 116)
    assert [text for _, text in steps(0.3, 0.3)] == ["0.30"]


@pytest.mark.parametrize("text", ["<script>x</script>", '"><b>', "a & b"])
def test_labels_are_text(text):
    chart = ElementTree.fromstring(line_chart(text, [Line(text, []), Line(text, [])], Axis(text, _X.ticks), _Y))

    assert chart.find("svg").get("aria-label") == chart.find("figcaption").text == text
    assert not list(chart.iter("script")) + list(chart.iter("b"))
    assert [t.text for t in chart.iter("text")].count(text) == 3


def test_a_band_goes_around_its_line_and_leaves_out_what_is_unbounded():
    band = [(0, 0.0, 0.5), (1, -math.inf, math.inf), (2, 0.5, 1.0)]
    chart = _chart(Line("a", [(0, 0.25), (1, 0.5), (2, 0.75)], band=band))

    (shape,) = chart.iter("polygon")
    assert shape.get("class") == "band fill0"
    assert shape.get("points").split() == ["48.0,220.0", "348.0,116.0", "348.0,12.0", "48.0,116.0"]


def test_a_thin_line_has_the_colour_of_the_bold_one_after_it_and_no_legend():
    chart = _chart(Line("a", [(0, 0)], "thin"), Line("a", [(0, 0)]), Line("b", [(0, 0)], "thin"), Line("b", [(0, 0)]))

    assert [line.get("class") for line in chart.iter("polyline")] == ["line0 thin", "line0", "line1 thin", "line1"]
    assert [t.text for t in chart.iter("text") if t.text in "ab"] == ["a", "b"]


def test_a_legend_lies_below_the_axes_within_the_picture():
    chart = _chart(*(Line(f"line {n}", []) for n in range(8)))

    height = int(chart.find("svg").get("viewBox").split()[-1])
    places = [float(t.get("y")) for t in chart.iter("text") if t.text.startswith("line ")]
    assert len(places) == 8
    assert all(260 <= place < height for place in places)
    assert [line.get("class") for line in chart.iter("polyline")][5:7] == ["line5", "line0"]


def test_a_line_of_many_points_has_no_marks():
    assert not list(_chart(Line("a", [(n / 100, 0.5) for n in range(100)])).iter("circle"))


def _bars(*bars):
    return ElementTree.fromstring(bar_chart("bars", bars, "users", "A - B"))


def test_bars_stand_highest_first_on_either_side_of_zero():
    chart = _bars(Bar("a", -0.5), Bar("b", 1.0, 0.5, 1.5), Bar("c", 0.0))

    assert [bar.find("title").text for bar in chart.iter("rect")] == ["b: +1.0000", "c: +0.0000", "a: -0.5000"]
    assert [bar.get("class") for bar in chart.iter("rect")] == ["fill0", "fill0", "fill1"]
    zero = float(next(iter(chart.iter("rect"))).get("y")) + float(next(iter(chart.iter("rect"))).get("height"))
    assert float(list(chart.iter("rect"))[2].get("y")) == pytest.approx(zero)
    assert len([path for path in chart.iter("path") if path.get("class") == "whisker"]) == 1


def test_a_crowd_is_drawn_as_bars_of_means():
    chart = _bars(*(Bar(f"user {n}", n / 1000) for n in range(1001)))

    assert len(list(chart.iter("rect"))) == 300
    assert next(iter(chart.iter("rect"))).find("title").text == "mean of 3: +0.9990"
    assert "1001" in [text.text for text in chart.iter("text")]


def test_without_bars_there_is_an_empty_frame():
    assert not list(_bars().iter("rect"))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 8))
def test_ticks_are_few_evenly_spaced_and_around_the_values(low, width, count):
    found = [place for place, _ in ticks(low, low + width, count)]

    assert found[0] <= low + 1e-6 * width + 1e-9 * abs(low)
    assert found[-1] >= low + width - 1e-6 * width - 1e-9 * abs(low)
    assert 2 <= len(found) <= count + 3
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert max(gaps) == pytest.approx(min(gaps), rel=1e-3)


def test_ticks_are_written_as_round_numbers():
    assert [text for _, text in ticks(0, 1)] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [text for _, text in ticks(-0.013, 0.02, 3)] == ["-0.02", "0.00", "0.02"]
    assert ticks(3, 3) == [(3, "3")]
