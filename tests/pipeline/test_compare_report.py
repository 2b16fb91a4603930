from __future__ import annotations

from pathlib import Path

import pytest

from prlm_cli.core import jsonl
from prlm_cli.core.settings import resolve
from prlm_cli.pipeline.compare import compare_scores
from prlm_cli.pipeline.compare_report import comparison_table, html_report
from prlm_cli.pipeline.evaluate import score_generations
from prlm_cli.pipeline.second_pass import Generations, Scored
from tests.pipeline.generations import TARGET, document, generation
from tests.report.elements import Elements

METRICS = ["rougeL", "length"]


@pytest.fixture
def scored(tmp_path):
    def score(name, *answers, **fields):
        records = [generation(n, answer=answer, **fields) for n, answer in enumerate(answers)]
        jsonl.write(tmp_path / name, records)
        source = Generations(tmp_path / name)
        return Scored(source, score_generations(source, METRICS))

    return score


def _report(a, *others, assignments=()):
    config = resolve(assignments=["eval.bootstrap=100", *assignments])
    found = [(b, compare_scores(a.scores, b.scores, METRICS, 100, 0)) for b in others]
    return found, html_report(a, found, config)


def test_the_page_has_the_figures_of_the_table(scored):
    found, html = _report(scored("a.jsonl", *[TARGET] * 9, "x"), scored("b.jsonl", *["fix a leak"] * 9, TARGET))

    table = comparison_table({Path("b.jsonl"): found[0][1]})
    texts = Elements(html).texts
    for row in table.rows:
        assert set(row) <= set(texts)
    assert {"A is a.jsonl. Above 0, A scores higher.", "A against B, b.jsonl", "10%"} <= set(texts)


def test_examples_are_those_that_changed_with_both_answers_marked(scored):
    _, html = _report(scored("a.jsonl", *[TARGET] * 30, "x y"), scored("b.jsonl", *["a leak"] * 30, TARGET))
    elements = Elements(html)

    outcomes = [(e["data-outcome"], e["data-groups"].split(",")[0]) for e in elements.of("article")]
    assert outcomes[:10] == [("win", "best")] * 10
    assert outcomes[10] == ("loss", "worst")
    assert {"ins", "del"} <= set(elements.tags)


def test_each_user_is_a_bar_with_an_interval_from_three_queries_on(scored):
    a = scored("a.jsonl", *[TARGET, "fix", TARGET], user_id="one")
    few, _ = scored("c.jsonl", TARGET, "fix"), None
    _, html = _report(a, scored("b.jsonl", "fix", "fix", "a leak", user_id="one"))
    _, without = _report(few, scored("d.jsonl", "fix", "fix"))

    assert [html.count("<rect"), html.count('class="whisker"')] == [1, 1]
    assert [without.count("<rect"), without.count('class="whisker"')] == [2, 0]
    assert ("t intervals" in html, "t intervals" in without) == (True, False)


def test_several_files_have_a_section_and_examples_each(scored):
    a = scored("a.jsonl", *[TARGET] * 40)
    _, html = _report(a, scored("b.jsonl", *["fix"] * 40), scored("c.jsonl", *["leak"] * 40))
    elements = Elements(html)

    assert [text for text in elements.texts if text.startswith("Examples")] == [
        "Examples, A against b.jsonl",
        "Examples, A against c.jsonl",
    ]
    assert len(elements.of("form")) == 2
    assert len(elements.of("article")) <= 2 * 4 * 5


def test_the_page_to_share_has_no_users_text(scored):
    profile = [document("a-secret-record")]
    secret = {"text": "a-secret-query", "reasoning": "a-secret-thought", "profile": profile, "user_id": "secret-user"}
    a, b = scored("a.jsonl", "a-secret-answer", TARGET, **secret), scored("b.jsonl", TARGET, TARGET, **secret)

    _, whole = _report(a, b)
    _, shared = _report(a, b, assignments=["eval.report_text=false"])

    words = ["a-secret-query", "a-secret-thought", "a-secret-record", "secret-answer", TARGET]
    assert [word in whole for word in words[:3]] == [True] * 3
    assert not any(word in shared for word in [*words, "secret-user"])


def test_the_table_names_the_files_where_there_are_several(scored):
    a, b = scored("a.jsonl", TARGET), scored("b.jsonl", "fix")
    found = compare_scores(a.scores, b.scores, ["rougeL"], 100, 0)

    assert comparison_table({Path("b.jsonl"): found}).rows[0][0] == "rougeL"
    assert comparison_table({Path("b.jsonl"): found, Path("c.jsonl"): []}).rows[0][0] == "rougeL b.jsonl"
