"""Corpora of any size made from real abstracts: users whose histories follow a power law, words as people use them.

A text is put together from whole sentences: half of them from one author, who is the user's own, half from anybody. So
the statistics of the words stay real, a user's texts resemble each other, and no two are equal. Each text ends in one
word that occurs nowhere else, since real texts bring new words however many there are already.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, cycle
from pathlib import Path
from typing import NamedTuple

import msgspec

from prlm_cli.core.records import Document, Query

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_FIRST_YEAR, _YEARS, _DAYS_OF_A_MONTH = 2000, 24, 28
_DAYS = _YEARS * 12 * _DAYS_OF_A_MONTH
ASKED_ON = "2024-06-01"
"""The date of every query: later than all documents, so that the whole history is eligible."""


class Author(NamedTuple):
    """What one real author wrote."""

    sentences: list[str]
    titles: list[str]


class Texts(NamedTuple):
    """Real texts, taken apart. `lengths` holds the number of sentences of each."""

    authors: list[Author]
    sentences: list[str]
    lengths: list[int]


def read_texts(path: Path) -> Texts:
    """The texts of a file of documents (JSONL), as sentences."""
    authors: dict[str, Author] = {}
    texts = Texts([], [], [])
    for line in path.read_bytes().splitlines():
        document = msgspec.json.decode(line, type=Document)
        sentences = _SENTENCE_END.split(document.text)
        author = authors.setdefault(document.user_id, Author([], []))
        author.sentences.extend(sentences)
        author.titles.append(document.title or "")
        texts.sentences.extend(sentences)
        texts.lengths.append(len(sentences))
    texts.authors.extend(authors.values())
    return texts


def power_law(documents: int, users: int, *, low: int = 2, high: int = 3000) -> list[int]:
    """How many documents each user has: p(n) ~ n^-a from `low` to `high`, ascending, `documents` in all.

    The sizes are the quantiles of the law and not drawn from it: a few very long histories would make a drawn mean
    differ much from seed to seed.

    Raises:
        ValueError: If so many users cannot have so many documents.
    """
    if not low * users <= documents <= high * users:
        raise ValueError(f"{users} users cannot have {documents} documents, {low} to {high} each")
    steepest, flattest = 8.0, -8.0
    while steepest - flattest > 1e-6:  # the steeper, the fewer documents
        middle = (steepest + flattest) / 2
        if sum(_quantiles(middle, users, low, high)) > documents:
            flattest = middle
        else:
            steepest = middle
    sizes = _quantiles(steepest, users, low, high)
    missing = documents - sum(sizes)  # few: the sum moves in steps
    step = 1 if missing > 0 else -1
    for user in cycle(reversed(range(users))):
        if not missing:
            break
        if low <= sizes[user] + step <= high:
            sizes[user] += step
            missing -= step
    return sorted(sizes)


def _quantiles(exponent: float, users: int, low: int, high: int) -> list[int]:
    cumulated = list(accumulate(n**-exponent for n in range(low, high + 1)))
    sizes, size = [], 0
    for user in range(users):
        wanted = (user + 0.5) / users * cumulated[-1]
        while cumulated[size] < wanted:
            size += 1
        sizes.append(low + size)
    return sizes


class Corpus:
    """Users with histories of given sizes. Everything is a function of the seed and the user, so nothing is kept.

    Args:
        texts: Where the sentences come from.
        sizes: How many documents each user has; users are numbered in this order.
        seed: Of everything random.
    """

    def __init__(self, texts: Texts, sizes: Sequence[int], *, seed: int = 0) -> None:
        self.sizes = list(sizes)
        self._texts = texts
        self._seed = seed

    def __len__(self) -> int:
        return sum(self.sizes)

    @staticmethod
    def user_id(user: int) -> str:
        """The id of a user; also the beginning of all words that only this user has."""
        return f"u{user:07d}"

    def documents(self, user: int) -> Iterator[Document]:
        """One user's documents, oldest first."""
        rng, author = self._start(user, "documents")
        for number in range(self.sizes[user]):
            yield Document(
                user_id=self.user_id(user),
                doc_id=f"d{number}",
                text=self._text(rng, author, f"{self.user_id(user)}w{number}"),
                title=rng.choice(author.titles),
                date=_date(number / self.sizes[user]),
            )

    def queries(self, user: int, count: int = 1) -> list[Query]:
        """Queries of one user: texts that are in no history, with a date after all documents."""
        rng, author = self._start(user, "queries")
        return [
            Query(
                query_id=f"{self.user_id(user)}:q{number}",
                user_id=self.user_id(user),
                text=self._text(rng, author, f"{self.user_id(user)}q{number}"),
                date=ASKED_ON,
            )
            for number in range(count)
        ]

    def askers(self, count: int, *, at_least: int = 1) -> list[int]:
        """Users of all sizes, in random order: one from each of `count` equal shares of those of a minimum size.

        Shares of the users by size, because of a few plain draws the very long histories would decide the mean.
        """
        rng = random.Random(f"{self._seed}:askers")
        users = [user for user, size in enumerate(self.sizes) if size >= at_least]
        users.sort(key=lambda user: self.sizes[user])
        count = min(count, len(users))
        chosen = [users[int((share + 0.5) * len(users) / count)] for share in range(count)]
        rng.shuffle(chosen)
        return chosen

    def write(self, path: Path) -> None:
        """Writes all documents as JSONL, user by user."""
        encoder = msgspec.json.Encoder()
        with path.open("wb") as stream:
            for user in range(len(self.sizes)):
                stream.writelines(encoder.encode(document) + b"\n" for document in self.documents(user))

    def _start(self, user: int, part: str) -> tuple[random.Random, Author]:
        author = random.Random(f"{self._seed}:{user}:author").choice(self._texts.authors)
        return random.Random(f"{self._seed}:{user}:{part}"), author

    def _text(self, rng: random.Random, author: Author, own_word: str) -> str:
        length = rng.choice(self._texts.lengths)
        sentences = rng.choices(author.sentences, k=(length + 1) // 2)
        sentences += rng.choices(self._texts.sentences, k=length // 2)
        return f"{' '.join(sentences)} {own_word}."


def _date(share: float) -> str:
    """The day that lies so far, in [0, 1), between the first day and the last."""
    month, day = divmod(int(share * _DAYS), _DAYS_OF_A_MONTH)
    return f"{_FIRST_YEAR + month // 12}-{month % 12 + 1:02d}-{day + 1:02d}"
