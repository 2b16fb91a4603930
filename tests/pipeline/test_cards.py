from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import PromptSettings, RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.engines import Completion
from prlm_cli.metrics.habits import card, manner
from prlm_cli.pipeline.candidates import candidates
from prlm_cli.pipeline.controls import profile_controls
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import load_policy
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve, swapped_profile, with_card
from prlm_cli.pipeline.sources import retrieved_from
from prlm_cli.pipeline.sweep import combinations, sweep
from prlm_cli.pipeline.train_policy import train_policy
from tests.pipeline.small import Notes, indexed, small
from tests.retrievers.corpora import documents, in_new_store, is_forbidden, queries

_CARDS = PromptSettings(card=True)
_RECENT = RetrievalSettings(k=2, retriever="recency")


def _card(*titles):
    return card([manner(title.strip()) for title in titles if title and title.strip()])


@settings(max_examples=10)
@given(data=st.data(), own=documents("u"), others=documents("v"), undated=st.sampled_from(["drop", "keep"]))
def test_a_card_counts_all_that_the_query_may_see_and_nothing_else(tmp_path_factory, data, own, others, undated):
    asked = [data.draw(queries(own)) for _ in range(3)]
    chosen = structs.replace(_RECENT, undated=undated)
    with in_new_store(tmp_path_factory.mktemp("store"), [*own, *others]) as store:
        found = list(retrieve(store, asked, chosen, prompt=_CARDS))
        again = [with_card(store, structs.replace(one, card=None), chosen, _CARDS) for one in found]

    for query, one, other in zip(asked, found, again, strict=True):
        seen = [d for d in own if not is_forbidden(query, own, d.doc_id, keep_undated=undated == "keep")]
        assert one.card == _card(*(document.title for document in seen))
        assert other.card == (one.card if one.profile else None)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "index.sqlite", create=True) as store:
        for user_id, title in {"ada": "Deep Trees", "ben": "noise: fix it"}.items():
            store.add_documents(
                Document(user_id=user_id, doc_id=f"d{n}", text="the text", title=title, date=f"20{10 + n}")
                for n in range(8)
            )
        yield store


_QUERY = Query(query_id="q", user_id="ada", text="a question", date="2030")


def _retrieved(store, query=_QUERY, prompt=_CARDS, **fields):
    (found,) = retrieve(store, [query], structs.replace(_RECENT, **fields), prompt=prompt)
    return found


def test_filters_of_retrieval_are_filters_of_the_card(store):
    store.add_documents([Document(user_id="ada", doc_id="new", text="t", title="ONE MORE TITLE", date="2025")])
    store.add_documents(
        [Document(user_id="ada", doc_id="odd", text="t", title="why?", date="2001", meta={"kind": "odd"})]
    )

    assert _retrieved(store).card == "2 words; title case; opens with Deep; often says deep, trees"
    assert _retrieved(store, since="2020").card == "3 words; capitals"
    assert _retrieved(store, as_of="2005").card == "1 word; lower case; question"
    assert _retrieved(store, where=["kind=odd"]).card == "1 word; lower case; question"


def test_a_card_is_counted_only_where_prompts_have_one(store):
    assert _retrieved(store, prompt=PromptSettings()).card is None
    assert _retrieved(store, prompt=None).card is None


@pytest.mark.parametrize("fields", [{"k": 0}, {"retriever": "none"}], ids=str)
def test_who_is_shown_no_record_is_shown_no_card(store, fields):
    assert _retrieved(store, **fields).card == ""


def test_nothing_is_known_of_a_user_without_documents(store):
    assert _retrieved(store, structs.replace(_QUERY, user_id="nobody")).card == ""


def test_a_task_that_writes_texts_has_cards_of_texts(store):
    found = _retrieved(store, prompt=PromptSettings(card=True, task="tweets"))

    assert found.card == "2 words; lower case; opens with the; often says text"


def test_a_swapped_profile_has_the_card_of_its_owner(store):
    found = swapped_profile(store, _QUERY, ["ada", "ben"], _RECENT, prompt=_CARDS)

    assert (found.profile_user_id, found.card) == (
        "ben",
        _retrieved(store, structs.replace(_QUERY, user_id="ben")).card,
    )
    assert found.card != _retrieved(store).card


def test_a_record_of_another_user_without_a_card_stays_without(store):
    found = swapped_profile(store, _QUERY, ["ada", "ben"], _RECENT)

    assert with_card(store, found, _RECENT, _CARDS) == found


def test_a_history_is_read_once_for_all_of_a_users_queries(store, monkeypatch):
    read = []
    documents_at = Store.documents_at

    def counted(self, user_id, rids):
        read.append(len(rids))
        return documents_at(self, user_id, rids)

    monkeypatch.setattr(Store, "documents_at", counted)
    asked = [structs.replace(_QUERY, query_id=f"q{n}", date=f"20{12 + n}") for n in range(6)]
    found = list(retrieve(store, asked, _RECENT, prompt=_CARDS))

    assert read.count(8) == 1 and len(found) == 6
    assert read.count(2) == 6


def test_controls_without_records_have_no_card_and_swapped_ones_that_of_the_other(tmp_path):
    workspace = indexed(tmp_path)
    config = resolve(assignments=["prompt.card=true", "retrieval.k=2"])
    with workspace.open_store() as store:
        asked = list(retrieve(store, stored_queries(store, "dev"), config.retrieval, prompt=config.prompt))
        conditions = {found.name: found.queries for found in profile_controls(store, asked, config)}
        own = {query.user_id: query.card for query in conditions["own"]}
        zero_shot = candidates(store, asked, {"zero_shot"}, config)

    assert all(own.values()) and len(set(own.values())) > 1
    assert {query.card for query in conditions["no_profile"]} == {None}
    assert {each.shown["zero_shot"].card for each in zero_shot} == {None}
    assert [query.card for query in conditions["shuffled"]] == [own[query.user_id] for query in asked]
    for query in [*conditions["swapped"], *conditions["swapped_near"]]:
        assert query.card == own[query.profile_user_id]


def test_a_sweep_over_the_card_asks_with_and_without(tmp_path):
    workspace, config = indexed(tmp_path), resolve(assignments=["retrieval.k=2", "prompt.layout=turns"])
    with workspace.open_store() as store:
        asked = list(stored_queries(store, "dev"))
        without, with_one = sweep(combinations("card=false,true", config), store, asked)

    assert {query.card for query in without.queries} == {None}
    assert all(query.card for query in with_one.queries)
    assert (without.prompt.card, with_one.prompt.card) == (False, True)


def test_retrieve_writes_cards_only_where_asked(prlm, workspace):
    plain = prlm("retrieve", "-w", workspace.folder)
    found = prlm("retrieve", "-w", workspace.folder, "--set", "prompt.card=true")

    assert (found.exit_code, found.stderr) == (0, "")
    assert all("card" not in record for record in plain.records)
    records = found.records
    assert all(record.pop("card").startswith("3 words; sentence case; ") for record in records)
    assert records == plain.records


def _prompts(workspace, path, config, monkeypatch):
    """What the embedded text of each prompt is, as `generate` builds it from a file."""
    policy = load_policy(config, reporter=Notes())
    records = retrieved_from(workspace, config, path=path, split="test", user_id=None, text=None)
    found = []
    monkeypatch.setattr(type(policy), "engine", lambda *_, **__: _Keep(found))
    list(generate(records, policy, config))
    return [policy.tokenizer.decode(ids) for ids in found]


class _Keep:
    def __init__(self, found):
        self._found = found

    def complete(self, prompts, keys):
        self._found += prompts
        yield {n: Completion("x", 1, False) for n, _ in enumerate(prompts)}


def test_records_from_a_file_are_given_the_card_they_lack_and_keep_the_one_they_have(
    tiny_model, prlm, workspace, tmp_path, monkeypatch
):
    config = small(tiny_model, "prompt.card=true", "prompt.reasoning=off", "prompt.max_tokens=2000")
    files = {name: tmp_path / f"{name}.jsonl" for name in ("carded", "plain", "changed")}
    files["plain"].write_text(prlm("retrieve", "-w", workspace.folder).stdout)
    files["carded"].write_text(prlm("retrieve", "-w", workspace.folder, "--set", "prompt.card=true").stdout)
    lines = [json.loads(line) | {"card": "in capitals"} for line in files["plain"].read_text().splitlines()]
    files["changed"].write_text("".join(json.dumps(line) + "\n" for line in lines))
    carded, plain, changed = (
        _prompts(workspace, files[name], config, monkeypatch) for name in ("carded", "plain", "changed")
    )

    assert plain == carded
    assert all(text.startswith("The author's habits: 3 words; sentence case; ") for text in carded)
    assert all(text.startswith("The author's habits: in capitals\n\n") for text in changed)


def test_a_policy_is_trained_and_asked_with_cards_and_not_without(tiny_model, tmp_path):
    workspace = indexed(tmp_path)
    fields = ["prompt.card=true", "prompt.reasoning=off", "policy.eval_queries=2", "policy.steps=1"]
    config = small(tiny_model, *fields)

    run = train_policy(workspace, config, reporter=Notes())

    plain = small(tiny_model, "prompt.reasoning=off")
    with pytest.raises(SettingsError, match="was trained with other prompts"):
        train_policy(workspace, structs.replace(plain, policy=structs.replace(plain.policy, start_from=run.name)))
