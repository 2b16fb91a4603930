"""An index in several files: each user is in one of them, chosen by a hash of the id, so that no two share anything.

    index/000-of-004.sqlite … 003-of-004.sqlite    each a store of its own, which knows its name

What is read of one user is read from one shard, and is what one store for all would give. What is read of all comes
shard by shard, and within a shard in the order it came in. A snapshot holds from its beginning on for a shard that was
used before, and for another from its first use.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prlm_cli.core.errors import SettingsError, StorageError
from prlm_cli.core.history import History
from prlm_cli.core.partition import Shard, shard_of
from prlm_cli.core.records import Document, Query
from prlm_cli.core.store import CACHE_KB, Erased, Store
from prlm_cli.core.terms import Tokenizer
from prlm_cli.core.writer import Counts

MAX_SHARDS = 256
"""All may be open at once, each with three of the 1,024 files that a process may usually have."""

_NAME = re.compile(r"(\d{3})-of-(\d{3})\.sqlite")
_MIN_CACHE_KB = 2048


def make_shards(folder: Path, count: int, language: str | None = None) -> None:
    """Makes a folder with so many empty shards, all of them or none.

    Raises:
        SettingsError: If there may not be so many.
        StorageError: If they cannot be written.
    """
    if not 1 <= count <= MAX_SHARDS:
        raise SettingsError(f"{count} shards", hint=f"an index has 1 to {MAX_SHARDS}")
    import tempfile

    try:
        with tempfile.TemporaryDirectory(prefix=".index-", dir=folder.parent) as temporary:
            made = Path(temporary) / folder.name
            made.mkdir(mode=0o700)
            for shard in (Shard(number, count) for number in range(count)):
                Store(shard.file_in(made), create=True, language=language, shard=shard).__exit__()
            made.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}", hint="check the disk and permissions") from error


def shards_in(folder: Path) -> list[Shard]:
    """The shards in a folder, by their number.

    Raises:
        StorageError: If one is missing, there is none, or they are not of one index.
    """
    try:
        names = [match for file in folder.iterdir() if (match := _NAME.fullmatch(file.name))]
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}", hint="check the permissions") from error
    found = {Shard(*map(int, name.groups())) for name in names}
    counts = sorted({shard.of for shard in found})
    if len(counts) != 1:
        what = " and ".join(f"shards of {count}" for count in counts) or "no shards"
        raise StorageError(f"{folder} holds {what}", hint="put those of one index there, and no others")
    shards = [Shard(number, counts[0]) for number in range(counts[0])]
    for shard in shards:
        if shard not in found:
            hint = "bring it back, or index the data into a new workspace"
            raise StorageError(f"{shard.file_in(folder)} is missing", hint=hint)
    return shards


class ShardedStore(Store):
    """All shards of an index as one store; each is opened when it is needed.

    Args:
        path: The folder of the shards.
        create: Open them for writing; `make_shards` makes new ones.

    Raises:
        StorageError: If a shard is missing, there is none, or they are not of one index.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:  # not the parent's: it opens one file
        self.path = path
        self._create = create
        self._shards = shards_in(path)
        self._opened: dict[int, Store] = {}
        self._searched: set[Path] = set()
        self._held = contextlib.ExitStack()  # the snapshots of those that are open

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as stack:
            for store in self._opened.values():
                stack.push(store)

    @property
    def language(self) -> str:
        """The language that the texts are in."""
        return self._shard_at(0).language

    @property
    def tokenizer(self) -> Tokenizer:
        """What makes terms of a text here.

        Raises:
            StorageError: If the stored terms were made by another one.
        """
        return self._shard_at(0).tokenizer

    def add(self, records: Iterable[Document | Query]) -> tuple[Counts, Counts]:
        """Adds or updates records, in one transaction for each shard.

        Returns:
            What became of the documents, and of the queries.
        """
        parts: dict[int, list[Document | Query]] = {}
        for record in records:
            for number in range(len(self._shards)) if isinstance(record, Query) else [self._number(record.user_id)]:
                parts.setdefault(number, []).append(record)
        documents, queries = Counts(), Counts()
        for number in sorted(parts):
            added = self._shard_at(number).add(parts[number])
            documents, queries = documents + added[0], queries + added[1]
        return documents, queries

    def rebuild(self, language: str | None = None) -> int:
        """Makes everything derived from the texts anew, shard by shard; returns how many documents.

        Where it was interrupted, the shards are not of one kind; without a language it goes on in that of the first.
        """
        language = language or self.language
        return sum(store.rebuild(language) for store in self._all())

    def settle(self) -> None:
        """Moves what was committed here from the logs into the files; a reader that is busy puts it off."""
        for store in self._opened.values():
            store.settle()

    def history(self, user_id: str) -> History:
        """What retrieval reads of one user's documents; empty for an unknown user.

        Raises:
            StorageError: If a row is damaged or missing, or the user's shard was tokenised in another way than others.
        """
        store = self._shard_of(user_id)
        if store.path not in self._searched:
            if store.tokenizer is not self.tokenizer:  # a rebuild was interrupted
                what = f"{store.path} is in {store.language}, other shards are in {self.language}"
                raise StorageError(what, hint="run `prlm index --rebuild`")
            self._searched.add(store.path)
        return store.history(user_id)

    def documents(self, user_id: str, doc_ids: Sequence[str] | None = None) -> list[Document]:
        """Documents of one user: those of `doc_ids` in that order, or all in the order they came in."""
        return self._shard_of(user_id).documents(user_id, doc_ids)

    def documents_at(self, user_id: str, rids: Sequence[int]) -> list[Document]:
        """The documents of one user in these rows, in their order; a row of anybody else is not found."""
        return self._shard_of(user_id).documents_at(user_id, rids)

    def meta(self, user_id: str) -> dict[int, dict[str, Any]]:
        """The `meta` of those documents of one user that have one, by row."""
        return self._shard_of(user_id).meta(user_id)

    def vectors(self, user_id: str, model: str) -> dict[int, bytes]:
        """The vectors of one user's documents that an encoder has made, by row."""
        return self._shard_of(user_id).vectors(user_id, model)

    def keep_vectors(self, user_id: str, model: str, vectors: Mapping[int, bytes]) -> None:
        """Keeps vectors of one user's documents, by row, where the file can be written at all."""
        self._shard_of(user_id).keep_vectors(user_id, model, vectors)

    def queries(self, *, split: str | None = None, user_id: str | None = None) -> Iterator[Query]:
        """Stored queries, shard by shard, of one split and of one user where given."""
        stores = self._all() if user_id is None else [self._shard_of(user_id)]
        for store in stores:
            yield from store.queries(split=split, user_id=user_id)

    def has_user(self, user_id: str) -> bool:
        """Whether the user has ever come in."""
        return self._shard_of(user_id).has_user(user_id)

    def users(self) -> list[str]:
        """All user ids, shard by shard."""
        return [user_id for store in self._all() for user_id in store.users()]

    def count(self) -> dict[str, int]:
        """How many users, documents and queries all shards hold together."""
        counts = [store.count() for store in self._all()]
        return {name: sum(count[name] for count in counts) for name in counts[0]}

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        """Each user's id, number of documents and number of queries, shard by shard."""
        for store in self._all():
            yield from store.sizes()

    def splits(self) -> dict[str | None, int]:
        """How many queries each split has."""
        return dict(sum((Counter(store.splits()) for store in self._all()), Counter()))

    def encoders(self) -> dict[str, int]:
        """How many documents each encoder has made a vector of, by its fingerprint."""
        return dict(sum((Counter(store.encoders()) for store in self._all()), Counter()))

    def erase(self, user_id: str, doc_id: str | None = None) -> Erased:
        """Deletes a user with all documents and queries, or one document and the queries made from it."""
        return self._shard_of(user_id).erase(user_id, doc_id)

    def truncate_log(self) -> None:
        """Empties the logs of the shards that were used here, such as that of a user who was erased.

        Raises:
            StorageError: If another process still reads the state of before.
        """
        for store in self._opened.values():
            store.truncate_log()

    def compact(self, user_id: str) -> None:
        """Writes the user's shard anew, so that nothing is left in it but its rows, and empties its log.

        Raises:
            StorageError: If another process still reads the state of before.
        """
        self._shard_of(user_id).compact(user_id)

    def quick_check(self) -> str:
        """SQLite's own check of the files: "ok", or what is wrong with the first that is not."""
        verdicts = ((store.path.name, store.quick_check()) for store in self._all())
        return next((f"{name}: {verdict}" for name, verdict in verdicts if verdict != "ok"), "ok")

    def _enter_snapshot(self) -> None:
        if not self._snapshots:
            with contextlib.ExitStack() as stack:
                for store in self._opened.values():
                    stack.enter_context(store.snapshot())
                self._held = stack.pop_all()
        self._snapshots += 1

    def _leave_snapshot(self) -> None:
        self._snapshots -= 1
        if not self._snapshots:
            self._held.close()

    def _all(self) -> Iterator[Store]:
        return map(self._shard_at, range(len(self._shards)))

    def _number(self, user_id: str) -> int:
        return shard_of(user_id, len(self._shards))

    def _shard_of(self, user_id: str) -> Store:
        return self._shard_at(self._number(user_id))

    def _shard_at(self, number: int) -> Store:
        if number not in self._opened:
            shard = self._shards[number]
            cache_kb = max(CACHE_KB // len(self._shards), _MIN_CACHE_KB)
            store = Store(shard.file_in(self.path), create=self._create, shard=shard, cache_kb=cache_kb)
            self._opened[number] = store
            if self._snapshots:
                self._held.enter_context(store.snapshot())
        return self._opened[number]
