"""A store with one damaged byte gives the right answer or a storage error, never a wrong one and never a traceback."""

from __future__ import annotations

import random

import pytest

from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.pipeline.retrieve import retrieve

_USERS = [f"user{n}" for n in range(4)]
_WORDS = [
    "parse",
    "tree",
    "grammar",
    "speech",
    "noise",
    "signal",
    "corpus",
    "align",
    "attend",
    "model",
    "embed",
    "vector",
]
_SETTINGS = [
    RetrievalSettings(k=5),
    RetrievalSettings(k=3, retriever="recency", where=["lang=en"], undated="keep"),
    RetrievalSettings(k=4, retriever="random"),
]


def _text(choose):
    return " ".join(choose.choices(_WORDS, k=40))


def _documents():
    choose = random.Random(1)
    return [
        Document(
            user_id=user_id,
            doc_id=f"d{n}",
            text=f"{user_id} {_text(choose)}",
            title=f"title {n}" if n % 3 else None,
            date=f"20{10 + n:02d}-03" if n % 5 else None,
            meta={"lang": choose.choice(["en", "de"])} if n % 2 else {},
        )
        for n in range(20)
        for user_id in _USERS
    ]


def _queries():
    choose = random.Random(2)
    return [
        Query(query_id=f"{user_id}-{n}", user_id=user_id, text=_text(choose), date="2022", source_doc_id=f"d{n}")
        for user_id in _USERS
        for n in range(2)
    ]


def _answers(path):
    """What a store says to every question about its documents; a storage error is None."""
    queries = _queries()
    ids = [f"d{n}" for n in range(20)]
    asks = {
        "users": lambda store: store.users(),
        "queries": lambda store: list(store.queries()),
        **{f"history {user}": lambda store, user=user: store.history(user).entries for user in _USERS},
        **{f"documents {user}": lambda store, user=user: store.documents(user) for user in _USERS},
        **{f"some of {user}": lambda store, user=user: store.documents(user, ids) for user in _USERS},
        **{f"retrieve {n}": lambda store, s=s: list(retrieve(store, queries, s)) for n, s in enumerate(_SETTINGS)},
    }
    found = {}
    try:
        with Store(path) as store:
            for name, ask in asks.items():
                try:
                    found[name] = ask(store)
                except StorageError:
                    found[name] = None
    except StorageError:
        return dict.fromkeys(asks)
    return found


def _check_flips(folder, seed, count):
    path = folder / "index.sqlite"
    with Store(path, create=True) as store:
        store.add([*_documents(), *_queries()])
        store.settle()
    content = path.read_bytes()
    expected = _answers(path)
    assert None not in expected.values()
    used = [n for n, byte in enumerate(content) if byte]  # most of a small store is empty pages
    choose = random.Random(seed)
    noticed = 0
    for _ in range(count):
        damaged = bytearray(content)
        position = choose.choice(used) if choose.random() < 0.9 else choose.randrange(len(content))
        damaged[position] ^= choose.choice([1 << choose.randrange(8), choose.randrange(1, 256)])
        for left_over in folder.iterdir():
            left_over.unlink()
        path.write_bytes(damaged)
        found = _answers(path)
        wrong = [name for name, answer in found.items() if answer is not None and answer != expected[name]]
        assert not wrong, (position, content[position], damaged[position])
        noticed += None in found.values()
    assert noticed > count / 2


def test_a_flipped_byte_gives_the_right_answer_or_a_storage_error(tmp_path):
    _check_flips(tmp_path, seed=0, count=200)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_flipped_bytes_give_the_right_answer_or_a_storage_error(tmp_path, seed):
    _check_flips(tmp_path, seed, count=1000)
