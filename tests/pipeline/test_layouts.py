from __future__ import annotations

import json
from itertools import count

import pytest
from msgspec.structs import replace

from prlm_cli.core.configuration import resolve
from prlm_cli.core.settings import LAYOUTS
from prlm_cli.pipeline import layouts
from prlm_cli.pipeline.layouts import Form, measure_forms, resolve_prompt
from prlm_cli.pipeline.policies import load_policy
from tests.pipeline.small import Notes, small


@pytest.fixture
def measured(monkeypatch):
    """How many queries each measurement was made on; `turns` always wins."""
    found = []

    def measure_forms(policy, sample, config, *, ks, reporter):
        found.append(len(sample))
        return [Form("turns", ks[0], 0.5), Form("document", ks[0], 0.4), Form("completion", ks[0], 0.3)]

    monkeypatch.setattr(layouts, "measure_forms", measure_forms)
    return found


def _auto(model, *assignments):
    return small(model, "prompt.layout=auto", *assignments)


def test_the_embedded_models_layout_is_known(workspace, queries, measured):
    prompt = resolve_prompt(workspace, queries, resolve(), Notes()).prompt

    assert (prompt.layout, prompt.reasoning, measured) == ("completion", "on", [])


def test_a_named_layout_is_kept(tiny_model, workspace, queries, measured):
    config = small(tiny_model, "prompt.layout=document", "prompt.reasoning=off")

    assert resolve_prompt(workspace, queries, config, Notes()) == config
    assert measured == []


def test_any_other_models_layout_is_measured_once_and_kept(tiny_model, workspace, queries, measured):
    reporter = Notes()

    first = resolve_prompt(workspace, queries, _auto(tiny_model), reporter)
    again = resolve_prompt(workspace, queries, _auto(tiny_model, "policy.steps=9"), reporter)

    assert (first.prompt.layout, again.prompt.layout, measured) == ("turns", "turns", [6])
    assert reporter.notes == [f"measuring the layouts once for {tiny_model}"]
    assert list(json.loads((workspace.cache / "layouts.json").read_text()).values()) == ["turns"]


@pytest.mark.parametrize(
    "change", ["prompt.max_tokens=300", "retrieval.k=2", "prompt.task=subjects", "model.qlora=true"]
)
def test_what_changes_the_prompt_is_measured_anew(tiny_model, workspace, queries, measured, change):
    resolve_prompt(workspace, queries, _auto(tiny_model), Notes())
    resolve_prompt(workspace, queries, _auto(tiny_model, change), Notes())

    assert len(measured) == 2


def test_no_more_than_64_queries_are_measured(tiny_model, workspace, queries, measured):
    numbers = count()
    many = [replace(query, query_id=str(next(numbers))) for query in queries * 20]

    resolve_prompt(workspace, iter(many), _auto(tiny_model), Notes())

    assert measured == [64]


def test_without_targets_nothing_can_be_measured(tiny_model, workspace, queries, measured):
    bare = [replace(query, target=None) for query in queries]

    assert resolve_prompt(workspace, bare, _auto(tiny_model), Notes()).prompt.layout == "completion"
    assert measured == []


def test_every_form_is_measured_with_direct_answers_and_the_best_comes_first(tiny_model, queries):
    config = small(tiny_model, "prompt.reasoning=off")
    policy = load_policy(config, reporter=Notes())

    forms = measure_forms(policy, queries, small(tiny_model, "prompt.reasoning=on"), ks=[1, 2], reporter=Notes())

    assert {(form.layout, form.k) for form in forms} == {(layout, k) for layout in LAYOUTS for k in (1, 2)}
    assert [form.rouge_l for form in forms] == sorted((form.rouge_l for form in forms), reverse=True)
