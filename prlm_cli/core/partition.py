"""In which part of an index a user is: a hash of the id says, so that no two parts share anything."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple


class Shard(NamedTuple):
    """One of the parts of an index: its number, from 0, and how many there are."""

    number: int
    of: int

    @property
    def name(self) -> str:
        """What its file is called, and what is written in it."""
        return f"{self.number:03d}-of-{self.of:03d}"

    def holds(self, user_id: str) -> bool:
        """Whether it is that user's shard."""
        return shard_of(user_id, self.of) == self.number

    def file_in(self, folder: Path) -> Path:
        """Its file in a folder of shards."""
        return folder / f"{self.name}.sqlite"


def shard_of(user_id: str, count: int) -> int:
    """The number of a user's shard; it depends on nothing but the id and how many shards there are."""
    digest = blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count
