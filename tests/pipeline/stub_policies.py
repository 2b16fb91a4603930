"""Policies that are functions of the query and the records in the prompt, and users with a style each."""

from __future__ import annotations

from types import SimpleNamespace

from prlm_cli.core.completions import Parsed
from prlm_cli.core.configuration import resolve
from prlm_cli.core.prompts import Packed
from tests.pipeline.small import indexed

CONFIG = resolve(assignments=["eval.bootstrap=200", 'eval.metrics=["rougeL"]'])


class Stub:
    """A policy whose answer is a function of the query's text and the records in its prompt."""

    name = "stub"
    reasoning = False

    def __init__(self, answer):
        self.builder = self
        self._answer = answer

    def build(self, text, profile, card=None):
        return Packed([ord(letter) for letter in self._answer(text, profile)], tuple(profile), 0, False)

    def parse(self, completion):
        return Parsed(reasoning=None, answer=completion)

    def engine(self, config, temperature=None):
        return self

    def complete(self, ids, keys):
        texts = ["".join(map(chr, each)) for each in ids]
        yield {n: SimpleNamespace(text=text, tokens=len(text), truncated=False) for n, text in enumerate(texts)}


def newest_title(text, profile):
    return max(profile, key=lambda record: record.date).title if profile else "nothing"


def own_words(text, profile):
    return text


def styled_users(folder):
    """Users who always write the same title, each another."""
    titles = ("alpha beta", "gamma delta", "epsilon zeta", "eta theta")
    records = [
        {"user_id": f"u{user}", "doc_id": f"u{user}-{n}", "text": f"common words number {n}", "title": title, "date": n}
        for user, title in enumerate(titles)
        for n in range(1, 9)
    ]
    return indexed(folder, records)
