"""What policies wrote, by content: nothing is generated twice, and what was interrupted goes on where it was.

cache/completions-POLICY.jsonl holds a line for each completion of a policy: a hash of all that it depends on, whose it
is, for `forget`, and its text. Only the places of the lines are held in memory.

Prompts are put into batches as if nothing were known. A batch of which all is known is read; any other is computed as a
whole, for a completion may depend, in its last digits, on what it was computed with. It is then appended in one piece,
and what was known before stays as it was: so an interrupted run that goes on reads what an unbroken one computes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from prlm_cli.core.errors import StorageError
from prlm_cli.core.files import private
from prlm_cli.core.records import Retrieved
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.workspace import Workspace
from prlm_cli.engines import Completion, Engine, by_length, in_order
from prlm_cli.pipeline.policies import Policy


class _Shown(msgspec.Struct, omit_defaults=True):
    """A record that the prompt may have shown."""

    doc_id: str
    corpus: str | msgspec.UnsetType = msgspec.UNSET


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A completion and whose it is, as `owned_lines` reads it; the owners come first: half a line names them, too.

    `card` says whether there was one.
    """

    user_id: str
    profile_user_id: str | None = None
    key: str
    query_id: str
    profile: list[_Shown] = []
    card: bool = False
    completion: str
    tokens: int
    truncated: bool


_DECODER = msgspec.json.Decoder(_Line)


class CompletionCache:
    """The completions of one policy, in a file that nobody else writes to meanwhile. A context manager.

    Args:
        path: The file, made where it is missing; half a line at its end is cut off.
        policy: The policy's fingerprint.

    Raises:
        StorageError: If the file cannot be read or written.
    """

    def __init__(self, path: Path, policy: str) -> None:
        self._path = path
        self._policy = policy
        self._places: dict[str, int] = {}
        with self._storage_errors():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.fdopen(private(str(path), os.O_RDWR | os.O_CREAT), "r+b")
            self._end = self._read_places()
            self._file.truncate(self._end)

    def __enter__(self) -> CompletionCache:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # only of what could not be written before, and that was said
            self._file.close()

    def complete(
        self,
        engine: Engine,
        queries: Sequence[Retrieved],
        prompts: Sequence[list[int]],
        batch_size: int,
        *,
        keys: Sequence[str] | None = None,
    ) -> Iterator[dict[int, Completion]]:
        """The completions by the places of their prompts, batch by batch: what `engine.complete` gives for them.

        Args:
            engine: Of the policy that the cache is of.
            queries: What the prompts are of.
            prompts: Ids of tokens.
            batch_size: The engine's.
            keys: What seeds each; without them the ids of the queries.

        Raises:
            StorageError: If what was written cannot be kept.
        """
        seeds = keys or [query.query_id for query in queries]
        for batch in by_length(prompts, batch_size):
            some, ids, of_batch = [queries[n] for n in batch], [prompts[n] for n in batch], [seeds[n] for n in batch]
            yield dict(zip(batch, self._batch(engine, some, ids, of_batch), strict=True))

    def _batch(
        self, engine: Engine, queries: Sequence[Retrieved], prompts: Sequence[list[int]], seeds: Sequence[str]
    ) -> Sequence[Completion]:
        keys = [self._key(engine, *of) for of in zip(queries, prompts, seeds, strict=True)]
        if not all(key in self._places for key in keys):
            written = in_order(engine.complete(prompts, seeds))
            self._append([_line(*of) for of in zip(keys, queries, written, strict=True)])
        return [self._read(key) for key in keys]

    def _key(self, engine: Engine, query: Retrieved, ids: list[int], seed: str) -> str:
        # The users are in it, too: a line that two of them share would go with either.
        content = (self._policy, engine.decoding, seed, query.query_id, query.user_id, query.profile_user_id, ids)
        return hashlib.blake2b(msgspec.msgpack.encode(content), digest_size=16).hexdigest()

    def _read(self, key: str) -> Completion:
        with self._storage_errors():
            self._file.seek(self._places[key])
            line = _DECODER.decode(self._file.readline())
        return Completion(line.completion, line.tokens, line.truncated)

    def _append(self, lines: Sequence[_Line]) -> None:
        encoded = {line.key: msgspec.json.encode(line) + b"\n" for line in lines if line.key not in self._places}
        with self._storage_errors():
            self._file.seek(self._end)
            self._file.write(b"".join(encoded.values()))
            self._file.flush()
            os.fsync(self._file.fileno())
        for key, line in encoded.items():
            self._places[key] = self._end
            self._end += len(line)

    def _read_places(self) -> int:
        """Finds the lines, and says where the last whole one ends; a damaged one is as good as none."""
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                self._places.setdefault(_DECODER.decode(line).key, end)
            end += len(line)
        return end

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = f"{self._path}: {error.strerror}"
            raise StorageError(why, hint="free some space or check the permissions") from error
        except msgspec.DecodeError as error:
            raise StorageError(f"{self._path} was changed while it was in use", hint="run it again") from error


@contextlib.contextmanager
def completion_cache(workspace: Workspace, policy: Policy, reporter: Reporter) -> Iterator[CompletionCache | None]:
    """The cache of a policy's completions; None where it cannot be written, or another process has it in use.

    Args:
        workspace: Where it lies.
        policy: One that is not being trained.
        reporter: Told if there is none.
    """
    fingerprint = policy.fingerprint()
    path = workspace.cache / f"completions-{fingerprint}.jsonl"
    with contextlib.ExitStack() as stack:
        cache = None
        try:
            stack.enter_context(workspace.write_lock(path.stem, reporter))
            cache = stack.enter_context(CompletionCache(path, fingerprint))
        except (StorageError, PermissionError):
            reporter.note(f"{path} cannot be written: going on without a cache of completions")
        yield cache


def caches_in_use(workspace: Workspace) -> list[str]:
    """The files of completions that a process is writing."""
    files = sorted(workspace.cache.glob("completions-*.jsonl"))
    return [str(path.relative_to(workspace.folder)) for path in files if workspace.is_locked(path.stem)]


def _line(key: str, query: Retrieved, written: Completion) -> _Line:
    return _Line(
        key=key,
        query_id=query.query_id,
        user_id=query.user_id,
        completion=written.text,
        tokens=written.tokens,
        truncated=written.truncated,
        profile_user_id=query.profile_user_id,
        profile=[_Shown(record.doc_id, record.corpus) for record in query.profile],
        card=bool(query.card),
    )
