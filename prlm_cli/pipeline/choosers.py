"""Who chooses among options: a policy or a model on a server, asked for a letter, or a reward model by its scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import NamedTuple, Protocol

from msgspec import structs

from prlm_cli.core.prompts import Codec, Message, Prompt, one_line
from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.settings import Config
from prlm_cli.engines import in_order
from prlm_cli.models.scorer import Item, Scorer
from prlm_cli.pipeline.policies import Writer

_INSTRUCTION = (
    "One person made a request. Which of the options below suits this person best? Reply with its letter alone."
)
_AT_START = re.compile(
    r"\W*(?:(?:the\s+)?(?:answer|option|choice)(?:\s+is)?\W+)?([A-Z])(?=[.:),\]*\n]|\s*\Z)", re.IGNORECASE
)
_ALONE = re.compile(r"(?<!\w)([A-Z])(?!\w)")


class Question(NamedTuple):
    """What is to be chosen: a query, what is known of its user (a preference, records), and the options.

    `key` seeds the sampling, where a chooser samples.
    """

    key: str
    text: str
    options: Sequence[str]
    profile: Sequence[ProfileDocument] = ()
    preference: str | None = None


class Chooser(Protocol):
    """Chooses one option of each question."""

    @property
    def name(self) -> str:
        """What results call it."""
        ...

    def choose(self, questions: Sequence[Question]) -> list[int | None]:
        """The place of the chosen option of each, in order; None where no choice can be read, or there is a draw."""
        ...


class LetterChooser:
    """A writer that is shown the options under letters and names one.

    Args:
        writer: Who chooses.
        config: Decoding, and the limits of the judge.
        name: What results call it; without it, the writer's.
    """

    def __init__(self, writer: Writer, config: Config, name: str | None = None) -> None:
        self.name = name or writer.name
        self._codec = writer.builder.codec
        self._max_tokens = config.judge.max_tokens
        decoding = structs.replace(config.generation, max_new_tokens=config.judge.max_new_tokens, temperature=0.0)
        self._engine = writer.engine(structs.replace(config, generation=decoding))

    def choose(self, questions: Sequence[Question]) -> list[int | None]:
        """The option whose letter each completion names."""
        prompts = [self._codec.encode(_prompt(question, self._codec, self._max_tokens)) for question in questions]
        written = in_order(self._engine.complete(prompts, [question.key for question in questions]))
        return [_read(one.text, len(question.options)) for one, question in zip(written, questions, strict=True)]


class ScoreChooser:
    """A reward model, which chooses what it scores highest; it reads the records and not the preference.

    Args:
        scorer: Scores each option.
        name: What results call it.
    """

    def __init__(self, scorer: Scorer, name: str) -> None:
        self.name = name
        self._scorer = scorer

    def choose(self, questions: Sequence[Question]) -> list[int | None]:
        """The option of the highest score; None where two share it."""
        items = [Item(q.text, q.profile, option) for q in questions for option in q.options]
        scores = iter(self._scorer.scores(items) if items else [])
        return [_only_best([next(scores) for _ in question.options]) for question in questions]


def _prompt(question: Question, codec: Codec, max_tokens: int) -> Prompt:
    """The question in one user turn; every text on one line, so that none can forge an option."""
    share = max_tokens // (len(question.options) + 3)  # a share for the instruction and the letters
    known = [question.preference] if question.preference else []
    known += [f"{record.text} / {record.title}" if record.title else record.text for record in question.profile]
    each = share // max(1, len(known))
    lines = [f"- {codec.cut(one_line(text), each)}" for text in known]
    options = [
        f"{letter}: {codec.cut(one_line(option), share)}"
        for letter, option in zip(ascii_uppercase, question.options, strict=False)
    ]
    blocks = [_INSTRUCTION, f"Request: {codec.cut(one_line(question.text), share)}", "\n".join(options)]
    if lines:
        blocks.insert(1, "\n".join(["What is known of this person:", *lines]))
    return Prompt((Message("user", "\n\n".join(blocks)),), True, codec.begin_reply(reasons=False))


def _read(completion: str, options: int) -> int | None:
    """The option that a completion names: the letter it begins with, else the only one that stands alone in it."""
    said = completion.rpartition("</think>")[2].strip()
    letters = ascii_uppercase[:options]
    start = _AT_START.match(said)
    if start and start[1].upper() in letters:
        return letters.index(start[1].upper())
    named = {letter for letter in _ALONE.findall(said) if letter in letters}
    return letters.index(named.pop()) if len(named) == 1 else None


def _only_best(scores: Sequence[float]) -> int | None:
    best = max(scores)
    return scores.index(best) if scores.count(best) == 1 else None
