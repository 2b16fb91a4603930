"""Git histories: each commit's message body and the subject that its author gave it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from prlm_cli.core.errors import DataError, MissingError
from prlm_cli.core.jsonl import Line, OnFault

# NUL ends every field and every commit, and no message can hold one. A repository's own configuration must not start
# programs, so signatures are not shown; its mail map joins the addresses of an author.
_FORMAT = "%H%x00%aE%x00%aI%x00%s%x00%b"
_FIELDS = _FORMAT.count("%x00") + 1
_LOG = ["-z", "--no-merges", "--no-patch", "--no-show-signature", "--no-notes", "--no-color", "--encoding=UTF-8"]
_OWN_ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
_CHUNK = 2**16
# Possessive, and begun only where a word does: a message of one endless word takes no longer than another.
_ADDRESS = re.compile(r"<?(?<![\w.+%'-])[\w.+%'-]++@[\w-]++(?:\.[\w-]++)*+>?")
# Lines that name people: trailers that end in -by, Cc, and any other with an address.
_PEOPLE = re.compile(r"(?im)^[ \t]*(?:[\w-]+-by|cc|from|to)[ \t]*:.*$|^[ \t]*[\w-]+[ \t]*:.*<[^<>\s@]*+@[^<>\s]*+>.*$")


def read(
    repository: Path,
    on_fault: OnFault | None = None,
    *,
    limit: int | None = None,
    min_words: int = 3,
    on_short: Callable[[str], None] | None = None,
) -> Iterator[Line]:
    """A document for each commit but merges, newest first: `text` is the body of its message, `title` the subject.

    The user is a hash of the author's address. Lines that name people are taken out of the body, and addresses out of
    what is left, so a record holds neither.

    Args:
        repository: Its folder, or one in it.
        on_fault: What to do about a message that is not UTF-8, instead of raising it.
        limit: How many documents at most.
        min_words: How many words a body needs; a commit with fewer is passed over.
        on_short: Called with the id of each commit that is passed over.

    Raises:
        DataError: If it is no repository, has no commits, or git cannot read it.
        MissingError: If there is no git.
    """
    count = 0
    for commit_id, *fields in _commits(repository):
        if count == limit:
            return
        where = f"{repository}, commit {commit_id.decode()[:12]}"
        try:
            address, date, subject, body = (field.decode() for field in fields)
        except UnicodeDecodeError as error:
            fault = DataError(f"{where}: message is not UTF-8", hint="its encoding is not the one that it states")
            if on_fault is None:
                raise fault from error
            on_fault(fault, b"\n\n".join(fields[2:]).decode(errors="backslashreplace"))
            continue
        text = _without_people(body)
        if len(text.split()) < min_words or not text:
            if on_short:
                on_short(commit_id.decode())
            continue
        count += 1
        user_id = hashlib.blake2b(address.lower().encode(), digest_size=8).hexdigest()
        record = {"user_id": user_id, "doc_id": commit_id.decode(), "text": text, "title": _without_people(subject)}
        yield Line(where, {**record, "date": date})


def _without_people(text: str) -> str:
    text = _ADDRESS.sub("(address)", _PEOPLE.sub("", text))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _commits(repository: Path) -> Iterator[list[bytes]]:
    """The raw fields of the commits, newest first."""
    if not repository.is_dir():
        raise DataError(f"{repository}: no such folder", hint="name the folder of a git repository")
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE} | _OWN_ENVIRONMENT
    # Run in the folder: a path that looks like an option is never an argument.
    command = ["git", "--no-pager", "log", *_LOG, f"--format={_FORMAT}"]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                cwd=repository,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        except FileNotFoundError as error:
            raise MissingError("git is not installed", hint="install git, then import again") from error
        assert process.stdout
        try:
            fields: list[bytes] = []
            for field in _split(process.stdout):
                fields.append(field)
                if len(fields) == _FIELDS:
                    yield fields
                    fields = []
            code = process.wait()
        finally:
            process.stdout.close()
            process.kill()  # where the reader wants no more
            process.wait()
        if code:
            errors.seek(0)
            said = errors.read(1000).decode(errors="replace").strip().splitlines() or [f"git ended with {code}"]
            hint = "name the folder of a git repository with commits"
            raise DataError(f"{repository}: {said[0].removeprefix('fatal: ')}", hint=hint)


def _split(stream: IO[bytes]) -> Iterator[bytes]:
    """The parts of a stream that a NUL ends."""
    rest = b""
    while chunk := stream.read(_CHUNK):
        *parts, rest = (rest + chunk).split(b"\0")
        yield from parts
