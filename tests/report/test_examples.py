from __future__ import annotations

from prlm_cli.report.examples import Example, Side, example_list, shortened
from tests.report.elements import Elements


def _example(*answers, target="fix a leak", **fields):
    sides = [Side("AB"[n], answer, None, f"rougeL 0.{n}") for n, answer in enumerate(answers)]
    return Example(
        **{"user": "user 1", "query": "q", "target": target, "records": [], "difference": 0.5, "groups": ["best"]}
        | {"sides": sides}
        | fields
    )


def test_two_answers_are_marked_against_each_other():
    tags = Elements(example_list([_example("fix it", "fix that", outcome="win")])).tags

    assert (tags.count("ins"), tags.count("del"), tags.count("mark")) == (1, 1, 0)


def test_a_single_answer_is_marked_against_the_target():
    tags = Elements(example_list([_example("fix that")])).tags

    assert (tags.count("ins"), tags.count("del"), tags.count("mark")) == (0, 0, 1)


def test_a_missing_answer_or_target_is_said():
    texts = Elements(example_list([_example(None), _example("x", None, target=None)])).texts

    assert texts.count("no answer could be read") == 2
    assert texts.count("not known") == 1


def test_fields_offer_what_the_examples_have():
    examples = [
        _example("a", "b", user="user 2", outcome="loss", groups=["worst", "random"], difference=-0.25),
        _example("a", "b", outcome="win"),
    ]
    elements = Elements(example_list(examples))

    assert [field["name"] for field in elements.of("select")] == ["user", "outcome", "group", "order"]
    options = [text for text in elements.texts if text in ("user 1", "user 2", "win", "loss", "best", "worst")]
    assert options[:6] == ["user 1", "user 2", "loss", "win", "worst", "best"]
    assert [(a["data-user"], a["data-groups"], a["data-difference"]) for a in elements.of("article")] == [
        ("user 2", "worst,random", "-0.25"),
        ("user 1", "best", "0.5"),
    ]


def test_single_answers_have_no_outcome_to_filter_by():
    assert "outcome" not in [field["name"] for field in Elements(example_list([_example("a")])).of("select")]


def test_long_texts_and_many_records_are_cut():
    html = example_list([_example("word " * 5000, records=["r" * 5000] * 50)])

    assert len(html) < 25_000
    assert "and 40 more" in Elements(html).texts
    assert shortened("abc", 2) == "ab…"
    assert shortened("abc", 3) == "abc"
