from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import pytest

from prlm_cli.core.configuration import resolve
from prlm_cli.pipeline.compare import Comparison, compare_scores
from prlm_cli.pipeline.conditions_report import condition_table, html_report
from prlm_cli.pipeline.evaluate import Evaluation, evaluate
from tests.pipeline.generations import TARGET, generation
from tests.report.elements import Elements

CONFIG = resolve(assignments=["eval.bootstrap=100", 'eval.metrics=["rougeL","copy_rate"]', "seed=5"])


@dataclass(frozen=True)
class _Result:
    name: str
    facts: dict[str, Any]
    evaluation: Evaluation
    difference: dict[str, Comparison] = field(default_factory=dict)


def _result(name, right, reference=None, **facts):
    """A condition under which `right` of twelve queries are answered as the user did."""
    records = [generation(n, answer=TARGET if n < right else "fix") for n in range(12)]
    found = evaluate(records, CONFIG.eval)
    if reference is None:
        return _Result(name, facts, found)
    (compared,) = compare_scores(found.scores, reference.evaluation.scores, ["rougeL"], 100, 0)
    return _Result(name, facts, found, {"rougeL": compared})


@pytest.fixture
def controls():
    own = _result("own profile", 9)
    return [own, _result("no profile", 3, own), _result("another's", 1, own)]


def test_the_table_has_each_condition_and_its_distance_from_the_reference(controls):
    table = condition_table(controls, "rougeL")

    assert [row[0] for row in table.rows] == ["own profile", "no profile", "another's"]
    assert table.rows[0][3:] == ["", "", "", "12"]
    assert float(table.rows[1][3]) == pytest.approx(controls[1].difference["rougeL"].difference.mean, abs=1e-4)
    assert all(len(row) == len(table.header) for row in table.rows)


def test_the_page_has_gains_means_and_differences(controls):
    gain = controls[2].difference["rougeL"].difference
    html = html_report("Controls", "own profile", controls, {"personalisation gain": gain}, CONFIG)
    texts = Elements(html).texts

    assert {"Controls", "personalisation gain", f"{gain.mean:+.4f}", f"rougeL {gain:+.4f}"} <= set(texts)
    for row in condition_table(controls, "rougeL").rows:
        assert {cell for cell in row if cell} - {"12"} <= set(texts)
    assert "n/a" in texts  # nothing was retrieved, so nothing could be copied
    assert "<figure" not in html
    assert any("seed 5" in text for text in texts)


def test_a_sweep_has_a_curve_over_k_for_each_retriever():
    results = [
        _result(f"k={k}, {retriever}", right, k=k, retriever=retriever)
        for retriever, rights in {"bm25": (2, 6, 9), "random": (2, 3, 4)}.items()
        for k, right in zip((8, 0, 2), rights, strict=True)
    ]
    html = html_report("Sweep", "k=0, bm25", results, {}, CONFIG)

    (figure,) = re.findall(r"<figure>.*?</figure>", html)
    chart = ElementTree.fromstring(figure)
    places = [[float(p.split(",")[0]) for p in line.get("points").split()] for line in chart.iter("polyline")]
    assert [text.text for text in chart.iter("text") if text.text in ("bm25", "random")] == ["bm25", "random"]
    assert places == [sorted(places[0])] * 2
    assert len(list(chart.iter("polygon"))) == 2


def test_no_users_text_or_id_is_on_the_page(controls):
    html = html_report("Controls", "own profile", controls, {}, CONFIG)

    assert not any(private in html for private in (TARGET, "a text", ">u0<", ">q0<"))
