from __future__ import annotations

from pathlib import Path

import pytest

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.pipeline.compare import compare_files
from prlm_cli.pipeline.compare_report import html_report, tables, user_tables
from prlm_cli.pipeline.second_pass import Generations
from tests.pipeline.generations import TARGET, document, generation
from tests.report.elements import Elements

METRICS = ["rougeL", "length"]


@pytest.fixture
def file(tmp_path):
    def write(name, *answers, seed=0, **fields):
        path = tmp_path / name
        jsonl.write(path, [generation(n, answer=answer, seed=seed, **fields) for n, answer in enumerate(answers)])
        return path

    return write


def _report(a, *others, assignments=()):
    config = resolve(assignments=["eval.bootstrap=100", *assignments])
    sources = {path: Generations(path) for path in (a, *others)}
    found = compare_files(a, others, metrics=METRICS, resamples=100, read=sources.__getitem__)
    return found, html_report(a, found, sources, config)


def test_the_page_has_the_figures_of_the_table(file):
    found, html = _report(file("a.jsonl", *[TARGET] * 9, "x"), file("b.jsonl", *["fix a leak"] * 9, TARGET))

    texts = Elements(html).texts
    for table in tables(found):
        assert {*table.header, *(cell for row in table.rows for cell in row)} <= set(texts)
    assert {"A is a.jsonl. Above 0, A scores higher.", "A against B, b.jsonl", "10%"} <= set(texts)


def test_examples_are_those_that_changed_with_both_answers_marked(file):
    _, html = _report(file("a.jsonl", *[TARGET] * 30, "x y"), file("b.jsonl", *["a leak"] * 30, TARGET))
    elements = Elements(html)

    outcomes = [(e["data-outcome"], e["data-groups"].split(",")[0]) for e in elements.of("article")]
    assert outcomes[:10] == [("win", "best")] * 10
    assert outcomes[10] == ("loss", "worst")
    assert {"ins", "del"} <= set(elements.tags)


def test_each_user_is_a_bar_with_an_interval_from_three_queries_on(file):
    a = file("a.jsonl", *[TARGET, "fix", TARGET], user_id="one")
    few = file("c.jsonl", TARGET, "fix")
    _, html = _report(a, file("b.jsonl", "fix", "fix", "a leak", user_id="one"))
    _, without = _report(few, file("d.jsonl", "fix", "fix"))

    assert [html.count("<rect"), html.count('class="whisker"')] == [1, 1]
    assert [without.count("<rect"), without.count('class="whisker"')] == [2, 0]
    assert ("t intervals" in html, "t intervals" in without) == (True, False)


def test_several_files_have_a_section_and_examples_each(file):
    a = file("a.jsonl", *[TARGET] * 40)
    _, html = _report(a, file("b.jsonl", *["fix"] * 40), file("c.jsonl", *["leak"] * 40))
    elements = Elements(html)

    assert [text for text in elements.texts if text.startswith("Examples")] == [
        "Examples, A against b.jsonl",
        "Examples, A against c.jsonl",
    ]
    assert len(elements.of("form")) == 2
    assert len(elements.of("article")) <= 2 * 4 * 5


def test_the_page_to_share_has_no_users_text(file):
    profile = [document("a-secret-record")]
    secret = {"text": "a-secret-query", "reasoning": "a-secret-thought", "profile": profile, "user_id": "secret-user"}
    a, b = file("a.jsonl", "a-secret-answer", TARGET, **secret), file("b.jsonl", TARGET, TARGET, **secret)

    _, whole = _report(a, b)
    _, shared = _report(a, b, assignments=["eval.report_text=false"])

    words = ["a-secret-query", "a-secret-thought", "a-secret-record", "secret-answer", TARGET]
    assert [word in whole for word in words[:3]] == [True] * 3
    assert not any(word in shared for word in [*words, "secret-user"])


def test_the_tables_name_the_files_where_there_are_several(file):
    a, b, c = file("a.jsonl", TARGET), file("b.jsonl", "fix"), file("c.jsonl", "leak")
    (one, _), (two, _) = _report(a, b), _report(a, b, c)

    assert [[row[0] for row in table.rows] for table in tables(one)] == [METRICS, METRICS]
    assert [row[0] for row in next(tables(two)).rows][::2] == [f"rougeL {b}", f"rougeL {c}"]
    assert [table.header[0] for table in user_tables(one)] == ["rougeL of user", "length of user"]


def test_pooled_seeds_have_one_example_a_query_with_the_mean_difference(file):
    first, second = file("a0.jsonl", TARGET, "x"), file("a1.jsonl", "x", "x", seed=1)

    _, html = _report(Path(f"{first},{second}"), file("b.jsonl", "x", "x"))

    examples = {e["data-difference"] for e in Elements(html).of("article")}
    assert examples == {"0.5", "0.0"}
    assert "A is a0.jsonl, a1.jsonl. Above 0, A scores higher." in Elements(html).texts
