"""The prompt: one builder for pairs, training and generation; `completions` reads what comes back.

A prompt is a query, the records retrieved for it and an instruction, in one of three layouts:

    completion   no chat template: blocks "Text: … / Title: …", best match last, the query's block left open
    turns        each record a user turn and an assistant turn, the query the last user turn
    document     one user turn with the instruction and the records in it, the answer's cue opened in the reply

With a card, a line of the author's habits stands above the records. With reasoning, the prompt ends by opening <think>;
the completion closes it, and then gives the cue and the answer.

Differs from PrLM's released code (method reference, section 2): one builder for training and inference (defect 4), and
a budget per record instead of a blind cut of the whole prompt (5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from prlm_cli.core import completions
from prlm_cli.core.completions import UNTITLED, Parsed, without_tags
from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Document, ProfileDocument
from prlm_cli.core.settings import Layout

_NOT_THEIRS = "(by somebody else)"
_OF_NOTHING_KNOWN = "(an earlier one, of the author's own accord)"
_CARD = "The author's habits"
_MIN_RECORD_TEXT_TOKENS = 8  # below this a record's text says nothing; rather show one record fewer


@dataclass(frozen=True)
class Task:
    """What is asked for. `cue` names the answer, in the prompt and before the answer in a completion.

    Args:
        text_label: Names what the answer is made from.
        cue: Names the answer.
        instruction: One or two sentences to the policy.
        writes_texts: Whether the answer is of the kind of a record's text, and not of its title: a tweet, a review.
        is_long: Whether an answer may have several paragraphs.
    """

    text_label: str
    cue: str
    instruction: str
    writes_texts: bool = False
    is_long: bool = False

    def example(self, record: ProfileDocument) -> tuple[str, str]:
        """What a record shows: what was given, empty where that is not known, and what the author made of it."""
        title = record.title or UNTITLED
        if not self.writes_texts:
            return record.text, title
        return "" if title == UNTITLED else title, record.text

    def answer_of(self, document: Document) -> str:
        """What the author made of it; empty where that is not known."""
        return (document.text if self.writes_texts else document.title or "").strip()


class Message(NamedTuple):
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """What is encoded: turns through the chat template, or one text; then `opening`, which is never the user's.

    `reasons` is for templates that write something else where no thought is wanted.
    """

    messages: tuple[Message, ...]
    is_chat: bool
    opening: str
    reasons: bool = False


class Codec(Protocol):
    """A tokenizer as the builder needs it. Control tokens written in messages are encoded as plain text."""

    @property
    def reasons_by_itself(self) -> bool:
        """Whether the model thinks before it answers without having been taught to here."""
        ...

    def begin_reply(self, *, reasons: bool) -> str:
        """What is to follow the template's own beginning of a reply: then a thought is open, or none can begin."""
        ...

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of the whole prompt."""
        ...

    def count(self, text: str) -> int:
        """How many tokens a plain text takes."""
        ...

    def cut(self, text: str, tokens: int) -> str:
        """The longest beginning of a text that takes at most so many tokens."""
        ...


class Packed(NamedTuple):
    """A prompt that fits: its ids, the records shown (best first), and what had to be cut."""

    ids: list[int]
    records: tuple[ProfileDocument, ...]
    records_cut: int
    query_cut: bool


@dataclass(frozen=True)
class PromptBuilder:
    """Builds prompts of one form and parses their completions.

    Args:
        task: What is asked for.
        layout: The form.
        reasoning: Whether the policy reasons before it answers.
        max_tokens: No prompt is longer.
        codec: The policy's tokenizer.
        card: Whether a prompt has a card.
    """

    task: Task
    layout: Layout
    reasoning: bool
    max_tokens: int
    codec: Codec
    card: bool = False

    def build(self, text: str, profile: Sequence[ProfileDocument], card: str | None = None) -> Packed:
        """The prompt for a query's text and its records (best first), cut to fit.

        The records share what the rest leaves, in the order of their rank; what one does not use goes to the next. A
        record with no room for a meaningful piece of its text is left out, the worst first. A card that leaves no
        room for the query, or for any record, is left out, too. The query is cut only when it does not fit alone.

        Args:
            text: The query's.
            profile: Its records.
            card: How their author writes, where the prompts have cards; empty where nothing is known.

        Raises:
            SettingsError: If not even an empty query fits, or records have no card although the prompts have.
        """
        if self.card and profile and card is None:
            raise SettingsError("records without a card", hint="retrieve them with --set prompt.card=true")
        return self._build(one_line(text), profile, one_line(card or "") if self.card else "")

    def _build(self, query: str, profile: Sequence[ProfileDocument], card: str) -> Packed:
        shown = tuple(_clean(record) for record in profile)
        ids = self.codec.encode(self._render(query, shown, card))
        if len(ids) <= self.max_tokens:
            return Packed(ids, tuple(profile), 0, False)
        ids = self.codec.encode(self._render(query, (), card))
        if len(ids) > self.max_tokens:
            return self._build(query, profile, "") if card else self._cut_query(query, len(profile))
        overhead, fixed = self._fixed_costs(query, card)
        room = self.max_tokens - fixed
        while room > 0:
            packed = self._share(shown, room, overhead)
            if not packed:
                break
            full = self.codec.encode(self._render(query, packed, card))
            if len(full) <= self.max_tokens:
                cut = sum(a.text != b.text for a, b in zip(packed, shown, strict=False))
                return Packed(full, tuple(profile[: len(packed)]), cut + len(profile) - len(packed), False)
            room -= len(full) - self.max_tokens
        without = self._build(query, profile, "") if card else None
        return without if without and without.records else Packed(ids, (), len(profile), False)

    def completion(self, answer: str, reasoning: str = "") -> str:
        """The completion that a perfect policy would write after this builder's prompt, end token aside.

        An answer is one line, and neither it nor the reasoning can open or close a thought.
        """
        answer = one_line(answer)
        if self.reasoning:
            return f"{self.thought(reasoning)} {answer}"
        return f" {answer}" if self.opens_cue else answer

    def thought(self, reasoning: str) -> str:
        """The beginning of a completion whose reasoning is given: what remains to be written is the answer."""
        return f"{without_tags(reasoning)}\n</think>\n{self.task.cue}:"

    @property
    def is_chat(self) -> bool:
        """Whether the prompt is made of turns, through the chat template where there is one."""
        return self.layout != "completion"

    @property
    def opening(self) -> str:
        """What the prompt ends with, which a completion goes on from."""
        if self.is_chat:
            thought = self.codec.begin_reply(reasons=self.reasoning)
        else:
            thought = "<think>\n" if self.reasoning else ""
        return f"{thought}{self.task.cue}:" if self.opens_cue else thought

    @property
    def opens_cue(self) -> bool:
        """Whether the prompt ends with the cue, so that the first line of the completion is the answer."""
        return not self.reasoning and self.layout != "turns"

    @property
    def ends_at_line_break(self) -> bool:
        """Whether nothing of a completion counts after its first line, so that it can end there."""
        return self.opens_cue and (self.layout == "completion" or not self.task.is_long)

    def parse(self, completion: str) -> Parsed:
        """The reasoning and the answer of a completion of this builder's prompt."""
        return completions.parse(completion, cue=self.task.cue, reasoning_opened=self.reasoning, long=self.task.is_long)

    def is_well_formed(self, completion: str) -> bool:
        """Whether a readable answer follows exactly one closed, non-empty thought, or none without reasoning."""
        cue, long = self.task.cue, self.task.is_long
        return completions.is_well_formed(completion, cue=cue, reasoning=self.reasoning, long=long)

    @property
    def hash(self) -> str:
        """Identifies the form of the prompts: two builders with the same hash render the same text."""
        sample = (ProfileDocument(doc_id="1", text="a text", title="a title", rank=1),)
        rendered = self._render("the query", sample, "a card" if self.card else "")
        facts = repr(
            (rendered.messages, self._render("", ()).messages, rendered.is_chat, rendered.opening, self.max_tokens)
        )
        return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()

    def _render(self, query: str, records: Sequence[ProfileDocument], card: str = "") -> Prompt:
        ordered = tuple(reversed(records))  # best match last, next to the query
        if self.layout == "completion":
            messages: tuple[Message, ...] = (Message("user", self._blocks(query, ordered, card, header=not ordered)),)
        elif self.layout == "turns":
            examples = [turn for record in ordered for turn in self._turns(record)]
            system = "\n\n".join([self._instruction(), *_card_line(card)])
            messages = (Message("system", system), *examples, Message("user", query))
        else:
            messages = (Message("user", self._blocks(query, ordered, card, header=True)),)
        return Prompt(messages, self.is_chat, self.opening, self.reasoning)

    def _blocks(self, query: str, records: Sequence[ProfileDocument], card: str, *, header: bool) -> str:
        end = "\n" if self.layout == "completion" else ""
        asked = f"{self.task.text_label}: {query}{end}"
        above = [*([self._instruction()] if header else []), *_card_line(card)]
        return "\n\n".join([*above, *map(self._block, records), asked])

    def _block(self, record: ProfileDocument) -> str:
        given, answer = self.task.example(record)
        if not given and self.task.writes_texts:
            return f"{self.task.cue}{_mark(record)}: {answer}"
        return f"{self.task.text_label}{_mark(record)}: {given}\n{self.task.cue}: {answer}"

    def _turns(self, record: ProfileDocument) -> tuple[Message, Message]:
        given, answer = self.task.example(record)
        if not given and self.task.writes_texts:
            given = _OF_NOTHING_KNOWN
        return Message("user", f"{_mark(record)} {given}".lstrip()), Message("assistant", answer)

    def _instruction(self) -> str:
        if not self.reasoning:
            return self.task.instruction
        return (
            f"{self.task.instruction} First reason about the author's way between <think> and </think>,"
            f" then write {'' if self.task.is_long else 'one line: '}{self.task.cue}: and the answer."
        )

    def _share(self, records: Sequence[ProfileDocument], room: int, overhead: int) -> list[ProfileDocument]:
        """As many of the first records as get a meaningful share of `room` tokens, their texts cut to it."""
        for count in range(len(records), 0, -1):
            left, packed = room, []
            for position, record in enumerate(records[:count]):
                share = left // (count - position)
                title = self.codec.cut(record.title or UNTITLED, max(0, (share - overhead) // 2))
                text = self.codec.cut(record.text, max(0, share - overhead - self.codec.count(title)))
                if text != record.text and self.codec.count(text) < _MIN_RECORD_TEXT_TOKENS:
                    break
                packed.append(replace_text(record, text, title))
                left -= overhead + self.codec.count(title) + self.codec.count(text)
            if len(packed) == count:
                return packed
        return []

    def _fixed_costs(self, query: str, card: str) -> tuple[int, int]:
        """Tokens of a record beside its text and title, and of the prompt beside its records."""
        bare = ProfileDocument(doc_id="", text="", title="-")  # a title of one token: none at all would be spelled out
        two, one = (len(self.codec.encode(self._render(query, (bare,) * count, card))) for count in (2, 1))
        overhead = max(1, two - one)
        return overhead, one - overhead

    def _cut_query(self, query: str, records: int) -> Packed:
        spent = len(self.codec.encode(self._render("", ())))
        tokens = self.max_tokens - spent
        while tokens > 0:
            ids = self.codec.encode(self._render(self.codec.cut(query, tokens), ()))
            if len(ids) <= self.max_tokens:
                return Packed(ids, (), records, True)
            tokens -= len(ids) - self.max_tokens
        raise SettingsError(f"prompt.max_tokens={self.max_tokens} leaves no room for a query", hint="raise it")


def _card_line(card: str) -> list[str]:
    """The line that holds a card; none for an empty one."""
    return [f"{_CARD}: {card}"] if card else []


def replace_text(record: ProfileDocument, text: str, title: str) -> ProfileDocument:
    """The record with another text and title."""
    return msgspec.structs.replace(record, text=text, title=title)


def _mark(record: ProfileDocument) -> str:
    """What tells a record of the shared corpus from the user's own."""
    return f" {_NOT_THEIRS}" if record.corpus == "shared" else ""


def _clean(record: ProfileDocument) -> ProfileDocument:
    return replace_text(record, one_line(record.text), one_line(record.title or UNTITLED))


def one_line(text: str) -> str:
    """The text on one line, its tags opened up."""
    # One line, so that no text can forge another block; tags opened up, so that none can close the reasoning.
    return without_tags(" ".join(text.split()))
