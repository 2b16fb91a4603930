from __future__ import annotations

import os
import subprocess
import time

import pytest

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, MissingError
from prlm_cli.core.records import Document
from prlm_cli.formats import git

ADA = ("Ada Lovelace", "Ada@Example.org")
BEN = ("Ben", "ben@example.org")
_DATE = "2024-05-17T10:30:00+02:00"


@pytest.fixture
def repository(tmp_path):
    """A repository to commit to; each commit has a message and an author."""

    class Repository:
        path = tmp_path / "repo"

        def run(self, *args, stdin=None, **environment):
            return subprocess.run(
                ["git", "-c", "init.defaultBranch=main", *args],
                cwd=self.path,
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment},
                input=stdin,
                capture_output=True,
                check=True,
            ).stdout

        def commit(self, message, author=ADA, date=_DATE, *args):
            who = {
                f"GIT_{role}_{part}": value
                for role in ("AUTHOR", "COMMITTER")
                for part, value in zip(("NAME", "EMAIL"), author, strict=True)
            }
            raw = message if isinstance(message, bytes) else message.encode()
            self.run(
                "commit",
                "--allow-empty",
                "--cleanup=verbatim",
                "-F",
                "-",
                *args,
                stdin=raw,
                GIT_AUTHOR_DATE=date,
                GIT_COMMITTER_DATE=date,
                **who,
            )
            return self.run("rev-parse", "HEAD").decode().strip()

    Repository.path.mkdir()
    made = Repository()
    made.run("init", "-q")
    return made


def _documents(path, *args, **options):
    return [jsonl.validate(line.where, line.fields, Document) for line in git.read(path, *args, **options)]


def test_a_commit_is_a_document_whose_title_is_the_subject(repository):
    commit_id = repository.commit("fix the lamp\n\nIt flickered at night,\nbadly.\n\nNow it does not.\n")
    (document,) = _documents(repository.path)

    assert document == Document(
        user_id=document.user_id,
        doc_id=commit_id,
        text="It flickered at night,\nbadly.\n\nNow it does not.",
        title="fix the lamp",
        date=_DATE,
    )
    assert len(document.user_id) == 16 and jsonl.check_date("here", document) == document


def test_commits_come_newest_first_and_an_author_is_one_user_however_the_address_is_written(repository):
    for n, author in enumerate([ADA, BEN, ("A. L.", "ada@example.ORG")]):
        repository.commit(f"change {n}\n\nbecause of reason {n}", author)
    last, middle, first = _documents(repository.path)

    assert [d.title for d in (first, middle, last)] == ["change 0", "change 1", "change 2"]
    assert first.user_id == last.user_id != middle.user_id


def test_no_record_holds_who_wrote_it(repository):
    trailers = [
        "Signed-off-by: Ada Lovelace <Ada@Example.org>",
        "Co-authored-by: Ben <ben@example.org>",
        "reviewed-by: Ben",
        "Cc: stable@example.org",
        "X-Tested: by Ben <ben@example.org>",
    ]
    body = "It broke for ben@example.org and <ada@example.org>.\nSee below: a fix."
    repository.commit("fix for ada@example.org\n\n" + body + "\n\n" + "\n".join(trailers) + "\n\nFixes: 1234abcd\n")
    (line,) = git.read(repository.path)

    assert line.fields["text"] == "It broke for (address) and (address).\nSee below: a fix.\n\nFixes: 1234abcd"
    assert line.fields["title"] == "fix for (address)"
    assert not any(word in str(line).lower() for word in ("lovelace", "ada@", "ben"))


@pytest.mark.parametrize("word", ["a", "@", "<", "a.", "x@", "<@", "a-", "-by", "a: <", "\n:", " "])
def test_a_message_of_one_endless_word_is_read_in_time(word):
    started = time.monotonic()
    git._without_people(word * 200_000 + "\nkey: " + word * 200_000)

    assert time.monotonic() - started < 2


def test_commits_with_little_to_say_are_passed_over_and_merges_are_none(repository):
    repository.commit("root\n\nenough words here")
    repository.run("checkout", "-q", "-b", "side")
    short = [
        repository.commit("a"),
        repository.commit("b\n\ntwo words"),
        repository.commit("c\n\nAcked-by: Ben the Great"),
    ]
    repository.run("checkout", "-q", "main")
    repository.commit("d\n\nthree whole words")
    who = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x", "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x"}
    repository.run("merge", "-q", "--no-ff", "-m", "merge\n\nof this and that", "side", **who)
    passed_over = []

    assert [d.title for d in _documents(repository.path, on_short=passed_over.append)] == ["d", "root"]
    assert sorted(passed_over) == sorted(short)
    assert {d.title for d in _documents(repository.path, min_words=2)} == {"d", "b", "root"}
    assert all(d.text for d in _documents(repository.path, min_words=0))


def test_a_limit_ends_the_reading(repository):
    for n in range(5):
        repository.commit(f"change {n}\n\nbecause of reason {n}")

    assert [d.title for d in _documents(repository.path, limit=2)] == ["change 4", "change 3"]
    lines = git.read(repository.path)
    next(lines)
    lines.close()  # and git ends with it


def test_many_commits_are_read_as_they_come(repository):
    stream = b"".join(
        b"commit refs/heads/main\ncommitter A <a@b.c> %d +0000\ndata %d\n%s\n" % (n, len(text), text)
        for n in range(3000)
        for text in [b"subject %d\n\n" % n + b"body of several words\n" * 20]
    )
    repository.run("fast-import", "--quiet", stdin=stream)
    started = time.monotonic()

    assert next(git.read(repository.path)).fields["title"] == "subject 2999"
    assert len(_documents(repository.path)) == 3000
    assert time.monotonic() - started < 10


def test_a_message_in_another_encoding_is_read_and_one_in_none_is_a_fault(repository):
    repository.commit("ein Stück\n\nüber drei Wörter")
    latin = repository.run("cat-file", "commit", "HEAD").decode().encode("latin-1")
    stated = latin.replace(b"\n\n", b"\nencoding ISO-8859-1\n\n", 1)
    unstated_id, stated_id = (
        repository.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw).decode().strip()
        for raw in (latin, stated)
    )
    repository.run("update-ref", "HEAD", unstated_id)
    faults = []

    assert _documents(repository.path, lambda *fault: faults.append(fault)) == []
    ((error, rejected),) = faults
    assert error.message.endswith("message is not UTF-8") and "St\\xfcck" in rejected
    with pytest.raises(DataError, match="not UTF-8"):
        _documents(repository.path)
    repository.run("update-ref", "HEAD", stated_id)
    assert [(d.title, d.text) for d in _documents(repository.path)] == [("ein Stück", "über drei Wörter")]


def test_what_is_no_repository_is_a_data_error(repository, tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder"):
        _documents(tmp_path / "none")
    with pytest.raises(DataError, match="not a git repository"):
        _documents(tmp_path)
    with pytest.raises(DataError, match="does not have any commits yet"):
        _documents(repository.path)


def test_a_folder_in_a_repository_will_do_and_one_that_looks_like_an_option(repository, monkeypatch):
    repository.commit("a\n\nfolder in a repository")
    for name in ("sub", "--version", "-h"):
        (repository.path / name).mkdir()
    monkeypatch.chdir(repository.path)

    for name in ("sub", "--version", "-h", "."):
        assert [d.title for d in _documents(git.Path(name))] == ["a"]


def test_a_repository_elsewhere_in_the_environment_is_not_meant(repository, monkeypatch, tmp_path):
    repository.commit("a\n\nfolder in a repository")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))

    assert len(_documents(repository.path)) == 1


def test_the_configuration_of_a_repository_starts_no_program(repository, tmp_path):
    repository.commit("a\n\nfolder in a repository")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o700)
    for key in ("gpg.program", "core.pager", "core.fsmonitor", "diff.external", "pager.log", "core.sshCommand"):
        repository.run("config", key, str(trap))
    repository.run("config", "log.showSignature", "true")

    assert len(_documents(repository.path)) == 1
    assert not (tmp_path / "sprung").exists()


def test_without_git_it_says_so(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingError, match="git is not installed"):
        _documents(repository.path)
