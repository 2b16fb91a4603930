from __future__ import annotations

import numpy as np
import pytest

from prlm_cli.core.records import Document, Query, shown
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.retrievers import dense
from tests.models.tiny_encoders import write_cross_encoder, write_static_encoder

_TEXTS = ["red cat", "green dog", "blue tree", "red red tree", "known cats"]
_DOCUMENTS = [Document(user_id=u, doc_id=f"d{n}", text=text) for u in "uv" for n, text in enumerate(_TEXTS)]
_QUERY = Query(query_id="q", user_id="u", text="red tree cat")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    pytest.importorskip("model2vec", reason="NOT RUN: needs the extra dense")
    folder = tmp_path_factory.mktemp("static")
    write_static_encoder(folder)
    return str(folder)


@pytest.fixture
def path(tmp_path):
    with Store(tmp_path / "index.sqlite", create=True) as store:
        store.add_documents(_DOCUMENTS)
    return tmp_path / "index.sqlite"


def _found(path, query=_QUERY, **fields):
    with Store(path) as store:
        (result,) = retrieve(store, [query], RetrievalSettings(**{"k": 9, **fields}))
    return [(document.doc_id, document.score) for document in result.profile]


def test_documents_are_ranked_by_the_cosine_of_their_vectors(path, encoder):
    found = _found(path, retriever="dense", encoder=encoder)
    model = dense._load(encoder)
    expected = model.encode([shown(document) for document in _DOCUMENTS[:5]]) @ model.encode([_QUERY.text])[0]

    scores = {f"d{n}": score for n, score in enumerate(expected)}
    assert [doc_id for doc_id, _ in found] == sorted(scores, key=scores.__getitem__, reverse=True)
    assert [score for _, score in found] == pytest.approx(sorted(scores.values(), reverse=True), abs=2e-3)


def test_a_vector_is_made_once_for_each_document_of_the_user_and_model(path, encoder, monkeypatch):
    model, made = dense._load(encoder), []

    class Counting:
        fingerprint, width = model.fingerprint, model.width

        def encode(self, texts, *, queries=False):
            made.extend([] if queries else texts)
            return model.encode(texts, queries=queries)

    monkeypatch.setattr(dense, "_load", lambda name: Counting())
    first = _found(path, retriever="dense")
    assert made == [shown(document) for document in _DOCUMENTS[:5]]
    assert _found(path, retriever="dense") == first and len(made) == 5
    with Store(path, create=True) as store:
        changed = Document(user_id="u", doc_id="d1", text="blue blue")
        store.add_documents([changed, Document(user_id="u", doc_id="d9", text="dog")])
        assert len(store.vectors("u", model.fingerprint)) == 4
    _found(path, retriever="dense")
    assert sorted(made[5:]) == ["blue blue", "dog"]
    with Store(path) as store:
        assert len(store.vectors("u", model.fingerprint)) == 6
        assert store.vectors("v", model.fingerprint) == store.vectors("u", "another model") == {}


def test_vectors_are_kept_in_half_precision_and_of_length_one(path, encoder):
    _found(path, retriever="dense", encoder=encoder)
    model = dense._load(encoder)

    with Store(path) as store:
        vectors = [np.frombuffer(vector, "<f2") for vector in store.vectors("u", model.fingerprint).values()]
    assert {len(vector) for vector in vectors} == {model.width}
    assert [float(np.linalg.norm(vector)) for vector in vectors] == pytest.approx([1] * 5, abs=2e-3)


def test_where_nothing_can_be_written_vectors_are_made_and_not_kept(path, encoder, monkeypatch):
    expected = _found(path, retriever="dense", encoder=encoder)
    with Store(path, create=True) as store:
        store.rebuild()
    monkeypatch.setattr("prlm_cli.core.store.is_writable", lambda path: False)

    assert _found(path, retriever="dense", encoder=encoder) == expected


def test_hybrid_fuses_the_ranks_of_words_and_of_meaning(path, encoder):
    by_word, by_meaning = (_found(path, retriever=name, encoder=encoder) for name in ("bm25", "dense"))
    expected = {}
    for ranking in (by_word, by_meaning):
        for rank, (doc_id, _) in enumerate(ranking, start=1):
            expected[doc_id] = expected.get(doc_id, 0) + 1 / (60 + rank)

    found = _found(path, retriever="hybrid", encoder=encoder)
    assert dict(found) == pytest.approx(expected)
    assert [score for _, score in found] == sorted(expected.values(), reverse=True)


def test_a_cross_encoder_orders_the_best_candidates_anew(path, tmp_path):
    from prlm_cli.models.cross_encoder import load_cross_encoder

    write_cross_encoder(tmp_path / "cross")
    scores = load_cross_encoder(str(tmp_path / "cross")).score(_QUERY.text, _TEXTS)
    by_word = [doc_id for doc_id, _ in _found(path)]

    found = _found(path, rerank=True, cross_encoder=str(tmp_path / "cross"))
    assert dict(found) == pytest.approx({f"d{n}": score for n, score in enumerate(scores)}, abs=1e-5)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    few = _found(path, rerank=True, cross_encoder=str(tmp_path / "cross"), candidates=2, k=2)
    assert {doc_id for doc_id, _ in few} == set(by_word[:2])
