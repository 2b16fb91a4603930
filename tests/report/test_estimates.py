from __future__ import annotations

import math
import re

from prlm_cli.report.estimates import Estimate, estimates
from tests.report.elements import Elements

_HEADER = ["metric", "value"]


def _bars(html):
    return [tuple(map(float, found)) for found in re.findall(r'class="line0" d="M([\d.]+) 10H([\d.]+)"', html)]


def test_intervals_lie_on_one_scale_around_their_estimates():
    html = estimates(_HEADER, [Estimate("a", 0.5, 0.0, 1.0, ["0.5"]), Estimate("b", 0.25, 0.0, 0.5, ["0.25"])])

    assert _bars(html) == [(0.0, 200.0), (0.0, 100.0)]
    assert re.findall(r'cx="([\d.]+)"', html) == ["100.0", "50.0"]
    assert re.findall(r"<text.*?>([^<]*)</text>", html) == ["0.0", "1.0"]


def test_the_reference_is_on_the_scale_and_marked_in_each_row():
    html = estimates(_HEADER, [Estimate("a", 0.3, 0.2, 0.4, ["0.3"])], reference=0.0)

    assert re.findall(r'class="reference" d="M([\d.]+) 0V20"', html) == ["0.0"]


def test_an_unbounded_interval_reaches_over_the_whole_scale():
    html = estimates(_HEADER, [Estimate("a", 0.5, -math.inf, math.inf, ["n/a"]), Estimate("b", 0.5, 0.4, 0.6, [""])])

    assert _bars(html)[0] == (0.0, 200.0)
    assert "inf" not in html


def test_counts_do_not_squeeze_the_scale_of_scores():
    html = estimates(_HEADER, [Estimate("length", -6.0, -8.0, -4.0, ["-6.0"]), Estimate("a", 0.1, 0.0, 0.2, ["0.1"])])

    assert _bars(html) == [(0.0, 200.0)]
    assert "-6.0" in Elements(html).texts


def test_without_rows_there_is_an_empty_scale():
    assert _bars(estimates(_HEADER, [])) == []
