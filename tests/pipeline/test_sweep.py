from __future__ import annotations

import pytest

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import SettingsError
from prlm_cli.engines.hf import HfEngine
from prlm_cli.pipeline.completion_cache import completion_cache
from prlm_cli.pipeline.conditions import run_conditions
from prlm_cli.pipeline.policies import load_policy
from prlm_cli.pipeline.sweep import combinations, reference_of, sweep
from tests.pipeline.small import Notes, asked, indexed, small

CONFIG = resolve()


def test_every_combination_is_there_once_in_order():
    found = combinations("k=0,2,2; retriever=bm25,random", CONFIG)

    assert [c.name for c in found] == [
        "k=0 retriever=bm25",
        "k=0 retriever=random",
        "k=2 retriever=bm25",
        "k=2 retriever=random",
    ]
    assert [c.facts["k"] for c in found] == [0, 0, 2, 2]
    assert [c.config.retrieval.retriever for c in found] == ["bm25", "random"] * 2


def test_the_reference_is_the_policys_own_setting_or_the_first():
    own = combinations("k=2,4", CONFIG)

    assert reference_of(own, CONFIG) == "k=4"
    assert reference_of(own[:1], CONFIG) == "k=2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--sweep names no setting"),
        ("k", "--sweep 'k': not KEY=VALUE,VALUE"),
        ("k=", "not KEY=VALUE,VALUE"),
        ("k=1;k=2", "--sweep names k twice"),
        ("retreiver=bm25", "no setting 'retreiver' of retrieval or prompt; did you mean retriever"),
        ("reasoning=on", "no setting 'reasoning'"),
        ("policy.steps=3", "no setting 'policy.steps'"),
        ("k=-1", "retrieval.k: expected"),
        ("retriever=bm52", "retrieval.retriever: expected"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_refused(text, message):
    with pytest.raises(SettingsError) as caught:
        combinations(text, CONFIG)
    assert message in str(caught.value)


def test_a_sweep_asks_in_other_forms_and_goes_on_where_it_was_stopped(tiny_model, tmp_path, monkeypatch):
    workspace = indexed(tmp_path)
    config = small(tiny_model, "prompt.reasoning=off", 'eval.metrics=["rougeL"]')
    swept = combinations("k=0,2;layout=completion,document", config)

    def run():
        policy = load_policy(config, reporter=Notes())
        with workspace.open_store() as store, completion_cache(workspace, policy, Notes()) as cache:
            conditions = list(sweep(swept, store, asked(store, config)))
            return run_conditions(conditions, reference_of(swept, config), policy, config, cache=cache)

    first = run()
    prompts = {g.usage.prompt_tokens for result in first.results for g in result.generations}
    assert [len(g.profile) for result in first.results for g in result.generations[:1]] == [0, 0, 2, 2]
    assert len(prompts) > 2
    assert first.reference == "k=0 layout=completion"
    monkeypatch.setattr(HfEngine, "complete", None)
    assert run().as_dict() == first.as_dict()
