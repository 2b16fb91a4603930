"""How one query is answered from one history: eligible documents, ranked, refined, and read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from prlm_cli.core import terms
from prlm_cli.core.errors import SettingsError, StorageError
from prlm_cli.core.history import History
from prlm_cli.core.records import Document, ProfileDocument, Query, shown
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers import RETRIEVERS, Ranked
from prlm_cli.retrievers.eligible import Eligible, eligible
from prlm_cli.retrievers.fusion import fuse
from prlm_cli.retrievers.hit import Hit

if TYPE_CHECKING:
    from prlm_cli.core.prompts import Task
    from prlm_cli.models.cross_encoder import CrossEncoder
    from prlm_cli.retrievers.shared import SharedCorpus


class LeftOut(NamedTuple):
    """How many queries are of users without documents, and how many did not see undated ones."""

    without_history: int
    without_undated: int


class Search:
    """What a batch of queries shares: the retriever, the filters, and a count of what was left out. A context manager.

    Args:
        store: The index.
        settings: How documents are ranked.
        seed: Of the random retriever.
        carded: The task whose answers cards are counted over; None counts none.

    Raises:
        SettingsError: If there is no such retriever, or a filter cannot be read.
        DataError: If the shared corpus is asked for and there is none.
    """

    def __init__(self, store: Store, settings: RetrievalSettings, *, seed: int, carded: Task | None = None) -> None:
        self.store = store
        self.settings = settings
        self.carded = carded
        self._language = store.language
        self._retriever = RETRIEVERS[settings.retriever](store, settings, seed=seed)
        self._where = [_condition(text) for text in settings.where]
        self._shared = _shared_corpus(store) if settings.corpus == "shared" else None
        self._without_history = 0
        self._without_undated = 0

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shared is not None:
            self._shared.close()

    def check(self) -> None:
        """Makes sure that the index is in the language that queries are read in: it may be rebuilt at any time.

        Raises:
            StorageError: If it is in another one by now.
        """
        if self.store.language != self._language:
            raise StorageError("the index was rebuilt in another language meanwhile", hint="start again")

    def rank(self, query: Query, history: History) -> list[Hit]:
        """The k documents that the query gets, best first."""
        if self.settings.k == 0:
            return []
        self._without_history += not len(history)
        own = [Hit(history.entries[position].rid, score) for position, score in self._own(query, history)]
        if self._shared is None:
            return own
        shared = self._shared.search(query, self.settings, lambda document: self._may_be_shown(query, document))
        return _fused(own, shared)[: self.settings.k]

    def seen(self, query: Query, history: History) -> Eligible:
        """All documents that the query may be given."""
        return eligible(query, history, self.settings, among=self._among(history))

    def card(self, query: Query, history: History) -> str | None:
        """The card of a history as the query may see it; None where none is counted, empty where no record is shown."""
        if self.carded is None:
            return None
        if self.settings.k == 0 or self.settings.retriever == "none":
            return ""
        from prlm_cli.pipeline.cards import card_of

        return card_of(self.store, history, self.seen(query, history), self.carded)

    def read(self, user_id: str, hits: Sequence[Hit]) -> list[ProfileDocument]:
        """The ranked documents with their texts; own ones are read as that user's."""
        own = iter(self.store.documents_at(user_id, [hit.rid for hit in hits if not hit.is_shared]))
        shared = iter(self._shared.documents([hit.rid for hit in hits if hit.is_shared]) if self._shared else ())
        return [
            _profile_document(next(shared if hit.is_shared else own), hit, n) for n, hit in enumerate(hits, start=1)
        ]

    @property
    def left_out(self) -> LeftOut:
        """Of how many queries so far something was left out."""
        return LeftOut(self._without_history, self._without_undated)

    def take_over(self, left_out: LeftOut) -> None:
        """Counts what another search of the same batch left out as well."""
        self._without_history += left_out.without_history
        self._without_undated += left_out.without_undated

    def report(self, reporter: Reporter) -> None:
        """Says what was left out of how many queries."""
        if self._without_history:
            reporter.note(f"{self._without_history} queries are of users without documents: their profiles are empty")
        if self._without_undated:
            reporter.note(f"{self._without_undated} queries did not see undated documents; --undated keep shows them")

    def _may_be_shown(self, query: Query, document: Document) -> bool:
        is_source = terms.fingerprint_of(document.text) == terms.fingerprint_of(query.text)
        return not is_source and _fits(document.meta, self._where)

    def _own(self, query: Query, history: History) -> list[Ranked]:
        seen = self.seen(query, history)
        self._without_undated += bool(history.undated and seen.span.start)
        if not len(seen):
            return []
        ranked = self._candidates(query, history, seen)
        if self.settings.rerank:
            ranked = self._reranked(query, history, ranked)
        if self.settings.min_score is not None:
            ranked = [candidate for candidate in ranked if candidate.score > self.settings.min_score]
        if self.settings.mmr is not None:
            from prlm_cli.retrievers.diversity import diversify

            return diversify(ranked, history, self.settings.k, self.settings.mmr)
        return ranked[: self.settings.k]

    def _candidates(self, query: Query, history: History, seen: Eligible) -> list[Ranked]:
        settings = self.settings
        is_refined = settings.rerank or settings.mmr is not None
        depth = max(settings.k, settings.candidates) if is_refined else settings.k
        ranked = self._retriever(query, history, seen, depth)
        if not settings.dedupe:
            return ranked
        distinct = _newest_of_equal(ranked, history)
        if len(distinct) < depth == len(ranked):
            distinct = _newest_of_equal(self._retriever(query, history, seen, len(seen)), history)
        return distinct[:depth]

    def _reranked(self, query: Query, history: History, ranked: list[Ranked]) -> list[Ranked]:
        rows = [history.entries[candidate.position].rid for candidate in ranked]
        texts = [shown(document) for document in self.store.documents_at(history.user_id, rows)]
        scores = _cross_encoder(self.settings.cross_encoder).score(query.text, texts)
        order = sorted(range(len(ranked)), key=lambda n: -scores[n])  # equal scores stay in the retriever's order
        return [Ranked(ranked[n].position, scores[n]) for n in order]

    def _among(self, history: History) -> set[int] | None:
        """The positions whose `meta` meets the conditions; None where there are none."""
        if not self._where:
            return None
        if "where" not in history.derived:
            meta = self.store.meta(history.user_id)
            fitting = {rid for rid, fields in meta.items() if _fits(fields, self._where)}
            history.derived["where"] = {n for n, entry in enumerate(history.entries) if entry.rid in fitting}
        found: set[int] = history.derived["where"]
        return found


def own_search(store: Store, settings: RetrievalSettings, *, carded: Task | None = None) -> Search:
    """A search that only says which own documents a query may see, and reads them: it loads no model to rank by."""
    plain = msgspec.structs.replace(settings, retriever="recency", k=1, corpus="own", rerank=False)
    return Search(store, plain, seed=0, carded=carded)


def _profile_document(document: Document, hit: Hit, rank: int) -> ProfileDocument:
    return ProfileDocument(
        doc_id=document.doc_id,
        text=document.text,
        title=document.title,
        date=document.date,
        score=hit.score,
        rank=rank,
        corpus="shared" if hit.is_shared else msgspec.UNSET,
    )


def _fused(own: Sequence[Hit], shared: Sequence[Hit]) -> list[Hit]:
    scores = fuse([[(hit.is_shared, hit.rid) for hit in ranking] for ranking in (own, shared)])
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0][0]))  # of equal ranks the own one first
    return [Hit(rid, score, is_shared) for (is_shared, rid), score in ranked]


def _newest_of_equal(ranked: Sequence[Ranked], history: History) -> list[Ranked]:
    """The ranking without older documents of a text that it holds in a newer one, each where the text came first."""
    newest: dict[bytes, Ranked] = {}
    for candidate in ranked:
        text = history.entries[candidate.position].fingerprint
        newest[text] = max(newest.get(text, candidate), candidate, key=lambda ranked: ranked.position)
    return list(newest.values())


@lru_cache(maxsize=1)
def _cross_encoder(name: str) -> CrossEncoder:
    from prlm_cli.models.cross_encoder import load_cross_encoder

    return load_cross_encoder(name)


def _condition(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SettingsError(f"--where {text}", hint="write --where key=value")
    return key, value


def _fits(meta: dict[str, object], where: Sequence[tuple[str, str]]) -> bool:
    return all(key in meta and _spelled(meta[key]) == value for key, value in where)


def _spelled(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _shared_corpus(store: Store) -> SharedCorpus:
    from prlm_cli.retrievers.shared import SharedCorpus

    return SharedCorpus(store.path.parent)
