"""The demo corpus is what the README says it is."""

from collections import defaultdict
from importlib.resources import files

import pytest

from prlm_cli.core.dates import parse_period
from prlm_cli.core.jsonl import read
from prlm_cli.core.records import Document


@pytest.fixture(scope="module")
def people():
    notes = defaultdict(list)
    for document in read(files("prlm_cli.demo") / "corpus.jsonl", Document):
        notes[document.user_id].append(document)
    return notes


def test_the_corpus_has_thirty_people_with_fourteen_notes_each(people):
    assert len(people) == 30
    assert {len(notes) for notes in people.values()} == {14}


def test_notes_are_dated_in_order_and_of_the_promised_length(people):
    for notes in people.values():
        starts = [parse_period(note.date).start for note in notes]
        assert starts == sorted(set(starts))
        assert all(25 <= len(note.text.split()) <= 60 for note in notes)


def test_no_text_or_title_stands_twice(people):
    notes = [note for of_one in people.values() for note in of_one]
    assert len({note.text for note in notes}) == len({note.title for note in notes}) == len(notes)


def test_people_title_differently(people):
    """The words a title has vary less within a person than between people."""
    lengths = {user: [len(note.title.split()) for note in notes] for user, notes in people.items()}
    means = [sum(values) / len(values) for values in lengths.values()]
    assert max(means) > 2 * min(means)
