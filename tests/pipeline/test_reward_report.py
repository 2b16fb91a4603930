from __future__ import annotations

import re
from html import unescape
from xml.etree import ElementTree

from prlm_cli.pipeline.pair_scores import Part
from prlm_cli.pipeline.reward_quality import reward_quality
from prlm_cli.pipeline.reward_report import html_report, tables
from tests.pipeline.scorers import BLIND, PERFECT, by_rouge, pairs_of, sampled

PAIRS = pairs_of(users=6)


def _quality(scorer=PERFECT, pairs=PAIRS, samples=(), queries=()):
    return reward_quality(scorer, users=Part(pairs, samples), queries=Part(queries), blind=BLIND, resamples=100)


def _samples():
    chosen = {pair.query_id: pair for pair in PAIRS}
    return [sampled(pair, ["nothing", pair.chosen, pair.rejected, None]) for pair in chosen.values()]


def test_the_tables_hold_the_figures():
    accuracies, controls, others, best = tables(_quality(samples=_samples()).users)

    assert accuracies.rows[0] == ["own>swapped", "1.000", "[0.610, 1.000]", "0.500", "0.000", "1.000", "12", "6"]
    assert [row[0] for row in controls.rows] == [
        "reward model",
        "echo rule",
        "shorter",
        "longer",
        "blind twin",
        "answer alone",
    ]
    assert others.rows[0] == ["own>swapped above the echo rule", "+0.000", "[+0.000, +0.000]"]
    assert [row[0] for row in best.rows] == ["best of 1", "best of 2", "best of 4"]
    for found in (accuracies, controls, others, best):
        assert all(len(row) == len(found.header) for row in found.rows)


def test_what_cannot_be_measured_is_not_applicable():
    pairs = [pair for pair in PAIRS if pair.kind == "own>zero_shot" and pair.user_id == "u0"]

    accuracies, controls, others = tables(_quality(pairs=pairs).users)

    assert accuracies.rows[0][3:6] == ["0.500", "n/a", "n/a"]
    assert controls.rows[0][-3:] == ["n/a", "n/a", "n/a"]
    assert (others.rows[0][0], others.rows[0][-1]) == ("accuracy above the echo rule", "n/a")
    assert not any("nan" in cell or "inf" in cell for row in others.rows for cell in row)


def test_the_page_has_the_verdict_both_parts_and_their_plots():
    quality = _quality(by_rouge(1, PAIRS), samples=_samples(), queries=PAIRS[:6])

    text = html_report("mine", quality)

    assert f"mine {quality.verdict}." in unescape(text)
    assert "held-out users: 36 pairs of 6 users" in text
    assert "held-out queries: 6 pairs of 1 users" in text
    charts = [ElementTree.fromstring(chart) for chart in re.findall(r"<svg.*?</svg>", text)]
    assert [chart.get("aria-label") for chart in charts] == ["Reliability", "Target ROUGE-L", "Reward", "Reliability"]


def test_no_users_text_is_on_the_page():
    text = html_report("mine", _quality(samples=_samples()))

    for pair in PAIRS:
        for private in (pair.text, pair.chosen, pair.rejected, pair.profile[0].title, pair.query_id):
            assert private not in text
