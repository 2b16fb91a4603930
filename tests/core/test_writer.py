"""What an upsert writes: whatever the way, the store is what one built from scratch of the final records is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.schema import User
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Erased, Store
from prlm_cli.core.terms import fingerprint_of
from prlm_cli.core.writer import Counts
from prlm_cli.pipeline.retrieve import retrieve
from tests.retrievers.corpora import DATES, TEXTS

_USERS = ["u", "v", "w"]
_QUERIES = [
    Query(query_id=f"{user_id} {text}", user_id=user_id, text=text, date=date, source_doc_id=source)
    for user_id in _USERS
    for text, date, source in [("parsing trees", None, None), ("speech", "1970-01-15", None), ("noise", None, "b")]
]


_DOCUMENTS = st.builds(
    Document,
    user_id=st.sampled_from(_USERS),
    doc_id=st.sampled_from("abcd"),
    text=TEXTS.map(lambda text: text or "empty"),
    title=st.none() | TEXTS,
    date=st.none() | DATES,
    meta=st.sampled_from([{}, {"lang": "en"}, {"lang": "de"}]),
)
_ASKED = st.builds(
    Query,
    query_id=st.sampled_from("pqr"),
    user_id=st.sampled_from(_USERS),
    text=TEXTS,
    source_doc_id=st.none() | st.sampled_from("abcd"),
)
_BLOCKS = st.lists(_DOCUMENTS | _DOCUMENTS | _ASKED, min_size=3, max_size=10)
_STEPS = st.lists(
    st.one_of(
        _BLOCKS,
        _BLOCKS,
        st.tuples(st.sampled_from(_USERS), st.sampled_from("abcd")),
        st.sampled_from([*_USERS, "reopen", "rebuild"]),
    ),
    min_size=2,
    max_size=8,
)


class _Model:
    """What should be there: documents by user and id, queries by id, each in the order they came in."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Document] = {}
        self.queries: dict[str, Query] = {}

    def put(self, records) -> None:
        for record in records:
            if isinstance(record, Document):
                self.documents[record.user_id, record.doc_id] = record
            else:
                self.queries[record.query_id] = record

    def erase(self, user_id, doc_id=None) -> Erased:
        gone = [key for key in self.documents if key == (user_id, doc_id) or (doc_id is None and key[0] == user_id)]
        texts = {fingerprint_of(self.documents.pop(key).text) for key in gone}
        made = [
            query.query_id
            for query in self.queries.values()
            if query.user_id == user_id
            and (doc_id is None or (gone and (query.source_doc_id == doc_id or fingerprint_of(query.text) in texts)))
        ]
        for query_id in made:
            del self.queries[query_id]
        return Erased(len(gone), len(made))


def _seen(store):
    """Everything that a store can be asked, row numbers aside."""
    found = {
        "queries": list(store.queries()),
        "counts": {name: store.count()[name] for name in ("documents", "queries")},
        "terms": store._db.execute("SELECT count(*) FROM term").fetchone(),
        "check": store.quick_check(),
    }
    for user_id in _USERS:
        history = store.history(user_id)
        found[user_id] = (
            store.documents(user_id),
            [entry[1:] for entry in history.entries],
            history.doc_ids,
            list(store.meta(user_id).values()),
            list(store.queries(user_id=user_id)),
        )
    for retriever in ("bm25", "recency", "random"):
        found[retriever] = list(retrieve(store, _QUERIES, RetrievalSettings(k=3, retriever=retriever)))
    return found


@settings(max_examples=40)
@given(_STEPS)
def test_any_interleaving_of_changes_is_a_store_of_the_final_records(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("store")
    model, store = _Model(), Store(folder / "index.sqlite", create=True)
    try:
        for step in steps:
            if step == "reopen":
                store.__exit__()
                store = Store(folder / "index.sqlite", create=True)
            elif step == "rebuild":
                assert store.rebuild() == len(model.documents)
            elif isinstance(step, list):
                before = len(model.documents), len(model.queries)
                model.put(step)
                documents, queries = store.add(step)
                assert (documents.added, queries.added) == (
                    len(model.documents) - before[0],
                    len(model.queries) - before[1],
                )
                assert sum(documents) + sum(queries) == len(step)
            else:
                user_id, doc_id = step if isinstance(step, tuple) else (step, None)
                assert store.erase(user_id, doc_id) == model.erase(user_id, doc_id)
        found = _seen(store)
    finally:
        store.__exit__()

    with Store(folder / "fresh.sqlite", create=True) as fresh:
        fresh.add([*model.documents.values(), *model.queries.values()])
        assert _seen(fresh) == found


@settings(max_examples=30)
@given(records=st.lists(_DOCUMENTS | _ASKED, max_size=12), cuts=st.lists(st.integers(0, 12), max_size=3))
def test_how_records_are_cut_into_blocks_makes_no_difference(tmp_path_factory, records, cuts):
    folder = tmp_path_factory.mktemp("store")
    found = []
    for name, ends in (("one", []), ("many", sorted(cuts))):
        with Store(folder / f"{name}.sqlite", create=True) as store:
            for first, end in zip([0, *ends], [*ends, len(records)], strict=True):
                store.add(records[first:end])
            found.append((_seen(store), [store.history(user).entries for user in _USERS], store.users()))

    assert found[0] == found[1]


@settings(max_examples=30)
@given(records=st.lists(_DOCUMENTS, max_size=12, unique_by=lambda record: (record.user_id, record.doc_id)))
def test_the_same_again_writes_nothing(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("store") / "index.sqlite"
    with Store(path, create=True) as store:
        store.add(records)
        store.settle()
        assert store.add(records)[0] == Counts(unchanged=len(records))
        assert path.with_name("index.sqlite-wal").stat().st_size == 0


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["one", "one"], Counts(added=1, unchanged=1)),
        (["one", "two"], Counts(added=1, updated=1)),
        (["one", "two", "one"], Counts(added=1, updated=2)),
        (["one", "two", "two"], Counts(added=1, updated=1, unchanged=1)),
    ],
)
def test_of_two_with_one_id_in_a_block_the_later_counts(tmp_path, texts, expected):
    with Store(tmp_path / "index.sqlite", create=True) as store:
        block = [Document(user_id="u", doc_id="d", text=text) for text in texts]
        assert store.add(block)[0] == expected
        assert [document.text for document in store.documents("u")] == texts[-1:]


def test_a_row_number_of_an_erased_document_is_not_used_again(tmp_path):
    with Store(tmp_path / "index.sqlite", create=True) as store:
        store.add_documents(Document(user_id="u", doc_id=doc_id, text=doc_id) for doc_id in "abc")
        rows = {entry.rid for entry in store.history("u").entries}
        store.erase("u", "c")
        store.add_documents([Document(user_id="u", doc_id="c", text="c")])
        assert len(rows | {entry.rid for entry in store.history("u").entries}) == 4


def test_the_last_of_the_row_numbers_of_a_user_is_used_and_none_after_it(tmp_path):
    full = User(1, "u", 2**24 - 2, 0)
    with Store(tmp_path / "index.sqlite", create=True) as store:
        store.add_documents([Document(user_id="v", doc_id="d", text="of v")])
        store._db.execute("INSERT INTO user VALUES (2, ?, ?, ?, ?)", ("u", full.n, 0, full.crc))
        assert store.add_documents([Document(user_id="u", doc_id="d1", text="t")]) == Counts(added=1)
        for _ in range(2):
            with pytest.raises(StorageError, match="a user has no room for more documents; give"):
                store.add_documents([Document(user_id="u", doc_id="d2", text="t")])
        assert [document.doc_id for document in store.documents("u")] == ["d1"]
        assert store.add_documents([Document(user_id="u", doc_id="d1", text="changed")]) == Counts(updated=1)
