from __future__ import annotations

from xml.etree import ElementTree

import pytest

from prlm_cli.report.charts import Axis, Line, line_chart, steps

_X, _Y = Axis("n", [(0, "1"), (1, "2"), (2, "4")]), Axis("ROUGE-L", steps(0, 1))


def _chart(*lines, x=_X, y=_Y):
    return ElementTree.fromstring(line_chart("a chart", lines, x, y))


def _places(chart):
    return [[tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in chart.iter("polyline")]


def test_a_line_goes_through_its_points_and_up_is_more():
    (line,) = _places(_chart(Line("chosen", [(0, 0), (1, 0.5), (2, 1)])))

    assert line == [(48, 220), (198, 116), (348, 12)]


def test_what_others_are_held_against_is_dashed_and_has_no_marks():
    chart = _chart(Line("chosen", [(0, 0), (2, 1)]), Line("random", [(0, 0.5), (2, 0.5)], is_reference=True))

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

    assert chart.get("aria-label") == text
    assert not list(chart.iter("script")) + list(chart.iter("b"))
    assert [t.text for t in chart.iter("text")].count(text) == 3
