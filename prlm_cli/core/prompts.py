"""The prompt: one builder for pairs, training and generation, and the parser of what comes back.

A prompt is a query, the records retrieved for it and an instruction, in one of three layouts:

    completion   no chat template: blocks "Text: … / Title: …", best match last, the query's block left open
    turns        each record a user turn and an assistant turn, the query the last user turn
    document     one user turn with the instruction and the records in it, the answer's cue opened in the reply

With reasoning, the prompt ends by opening <think>; the completion closes it, and then gives the cue and the answer.

Differs from PrLM's released code (method reference, section 2): one builder for training and inference (defect 4), a
budget per record instead of a blind cut of the whole prompt (5), and extraction that never reads an answer out of the
thought (2, 3).
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.settings import Layout

MAX_ANSWER_WORDS = 64
_MIN_RECORD_TEXT_TOKENS = 8  # below this a record's text says nothing; rather show one record fewer
_UNTITLED = "(untitled)"
_PLACEHOLDERS = frozenset({"generated title", "your title", "your title here", "title", "the title", _UNTITLED})
_TAG = re.compile(r"<(/?)(think|answer)>", re.IGNORECASE)
_THINK = re.compile(r"<think>", re.IGNORECASE)
_END_THINK = re.compile(r"</think>", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019"}


@dataclass(frozen=True)
class Task:
    """What is asked for. `cue` names the answer, in the prompt and before the answer in a completion."""

    text_label: str
    cue: str
    instruction: str


class Message(NamedTuple):
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """What is encoded: turns through the chat template, or one text; then `opening`, which is never the user's."""

    messages: tuple[Message, ...]
    is_chat: bool
    opening: str


class Codec(Protocol):
    """A tokenizer as the builder needs it. Control tokens written in messages are encoded as plain text."""

    @property
    def opens_reasoning(self) -> bool:
        """Whether the chat template itself opens <think> in the reply."""
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


class Parsed(NamedTuple):
    """A completion taken apart; `answer` is None where none can be read."""

    reasoning: str | None
    answer: str | None


@dataclass(frozen=True)
class PromptBuilder:
    """Builds prompts of one form and parses their completions.

    Args:
        task: What is asked for.
        layout: The form.
        reasoning: Whether the policy reasons before it answers.
        max_tokens: No prompt is longer.
        codec: The policy's tokenizer.
    """

    task: Task
    layout: Layout
    reasoning: bool
    max_tokens: int
    codec: Codec

    def build(self, text: str, profile: Sequence[ProfileDocument]) -> Packed:
        """The prompt for a query's text and its records (best first), cut to fit.

        The records share what the rest leaves, in the order of their rank; what one does not use goes to the next. A
        record with no room for a meaningful piece of its text is left out, the worst first. The query is cut only when
        it does not fit alone.

        Raises:
            SettingsError: If not even an empty query fits.
        """
        shown = tuple(_clean(record) for record in profile)
        query = _one_line(text)
        ids = self.codec.encode(self._render(query, shown))
        if len(ids) <= self.max_tokens:
            return Packed(ids, tuple(profile), 0, False)
        ids = self.codec.encode(self._render(query, ()))
        if len(ids) > self.max_tokens:
            return self._cut_query(query, len(profile))
        overhead, fixed = self._fixed_costs(query)
        room = self.max_tokens - fixed
        while room > 0:
            packed = self._share(shown, room, overhead)
            if not packed:
                break
            full = self.codec.encode(self._render(query, packed))
            if len(full) <= self.max_tokens:
                cut = sum(a.text != b.text for a, b in zip(packed, shown, strict=False))
                return Packed(full, tuple(profile[: len(packed)]), cut + len(profile) - len(packed), False)
            room -= len(full) - self.max_tokens
        return Packed(ids, (), len(profile), False)

    def completion(self, answer: str, reasoning: str = "") -> str:
        """The completion that a perfect policy would write after this builder's prompt, end token aside.

        An answer is one line, and neither it nor the reasoning can open or close a thought.
        """
        answer, reasoning = _one_line(answer), _TAG.sub(r"< \1\2>", reasoning)
        if self.reasoning:
            return f"{reasoning}\n</think>\n{self.task.cue}: {answer}"
        return f" {answer}" if self.opens_cue else answer

    @property
    def opens_cue(self) -> bool:
        """Whether the prompt ends with the cue, so that the first line of the completion is the answer."""
        return not self.reasoning and self.layout != "turns"

    def parse(self, completion: str) -> Parsed:
        """The reasoning and the answer of a completion of this builder's prompt."""
        return parse(completion, cue=self.task.cue, reasoning_opened=self.reasoning)

    def is_well_formed(self, completion: str) -> bool:
        """Whether a readable answer follows exactly one closed, non-empty thought, or none without reasoning."""
        parsed = self.parse(completion)
        if parsed.answer is None:
            return False
        if not self.reasoning:
            return not _TAG.search(completion)
        # A second <think> would let the policy farm the reward by repeating the template.
        opened = len(_THINK.findall(completion.strip().removeprefix("<think>")))
        return bool(parsed.reasoning) and len(_END_THINK.findall(completion)) == 1 and opened == 0

    @property
    def hash(self) -> str:
        """Identifies the form of the prompts: two builders with the same hash render the same text."""
        sample = (ProfileDocument(doc_id="1", text="a text", title="a title", rank=1),)
        rendered = self._render("the query", sample)
        facts = repr(
            (rendered.messages, self._render("", ()).messages, rendered.is_chat, rendered.opening, self.max_tokens)
        )
        return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()

    def _render(self, query: str, records: Sequence[ProfileDocument]) -> Prompt:
        ordered = tuple(reversed(records))  # best match last, next to the query
        if self.layout == "completion":
            messages: tuple[Message, ...] = (Message("user", self._blocks(query, ordered, header=not ordered)),)
        elif self.layout == "turns":
            examples = [
                Message(role, content)
                for record in ordered
                for role, content in (("user", record.text), ("assistant", record.title or _UNTITLED))
            ]
            messages = (Message("system", self._instruction()), *examples, Message("user", query))
        else:
            messages = (Message("user", self._blocks(query, ordered, header=True)),)
        return Prompt(messages, self.layout != "completion", self._opening())

    def _blocks(self, query: str, records: Sequence[ProfileDocument], *, header: bool) -> str:
        label, cue = self.task.text_label, self.task.cue
        blocks = [f"{label}: {record.text}\n{cue}: {record.title or _UNTITLED}" for record in records]
        end = "\n" if self.layout == "completion" else ""
        return "\n\n".join([*([self._instruction()] if header else []), *blocks, f"{label}: {query}{end}"])

    def _instruction(self) -> str:
        if not self.reasoning:
            return self.task.instruction
        return (
            f"{self.task.instruction} First reason about the author's way between <think> and </think>,"
            f" then write one line: {self.task.cue}: and the answer."
        )

    def _opening(self) -> str:
        template_opens = self.layout != "completion" and self.codec.opens_reasoning
        if self.reasoning:
            return "" if template_opens else "<think>\n"
        closed = "\n</think>\n\n" if template_opens else ""
        return f"{closed}{self.task.cue}:" if self.opens_cue else closed

    def _share(self, records: Sequence[ProfileDocument], room: int, overhead: int) -> list[ProfileDocument]:
        """As many of the first records as get a meaningful share of `room` tokens, their texts cut to it."""
        for count in range(len(records), 0, -1):
            left, packed = room, []
            for position, record in enumerate(records[:count]):
                share = left // (count - position)
                title = self.codec.cut(record.title or _UNTITLED, max(0, (share - overhead) // 2))
                text = self.codec.cut(record.text, max(0, share - overhead - self.codec.count(title)))
                if text != record.text and self.codec.count(text) < _MIN_RECORD_TEXT_TOKENS:
                    break
                packed.append(replace_text(record, text, title))
                left -= overhead + self.codec.count(title) + self.codec.count(text)
            if len(packed) == count:
                return packed
        return []

    def _fixed_costs(self, query: str) -> tuple[int, int]:
        """Tokens of a record beside its text and title, and of the prompt beside its records."""
        bare = ProfileDocument(doc_id="", text="", title="-")  # a title of one token: none at all would be spelled out
        two, one = (len(self.codec.encode(self._render(query, (bare,) * count))) for count in (2, 1))
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


def parse(completion: str, *, cue: str, reasoning_opened: bool) -> Parsed:
    """The reasoning and the answer of a completion (method reference 3.2).

    What follows the last </think> counts; a thought that was opened, by the prompt or in the text, and never closed has
    no answer. Then: the last <answer>, else a dictionary with the cue as key, else a quoted value after the cue, else
    the first line that is not empty, if it is short enough to be an answer. A placeholder is no answer.
    """
    ends = list(_END_THINK.finditer(completion))
    if ends:
        thought: str | None = completion[: ends[-1].start()]
        rest = completion[ends[-1].end() :]
    elif reasoning_opened or _THINK.search(completion):
        return Parsed(_TAG.sub("", completion).strip(), None)
    else:
        thought, rest = None, completion
    if _THINK.search(rest):
        return Parsed(_TAG.sub("", completion).strip(), None)
    reasoning = None if thought is None else _TAG.sub("", thought).strip()
    return Parsed(reasoning, _answer_in(rest, cue))


def replace_text(record: ProfileDocument, text: str, title: str) -> ProfileDocument:
    """The record with another text and title."""
    return ProfileDocument(
        doc_id=record.doc_id, text=text, title=title, date=record.date, score=record.score, rank=record.rank
    )


def _clean(record: ProfileDocument) -> ProfileDocument:
    return replace_text(record, _one_line(record.text), _one_line(record.title or _UNTITLED))


def _one_line(text: str) -> str:
    # One line, so that no text can forge another block; tags opened up, so that none can close the reasoning.
    return _TAG.sub(r"< \1\2>", " ".join(text.split()))


def _answer_in(text: str, cue: str) -> str | None:
    if answers := _ANSWER.findall(text):
        text = answers[-1]
    text = text.strip()
    found = _from_dictionary(text, cue)
    if found is None:
        found = _first_line(text, cue)
    answer = _strip_quotes(found.strip()) if found else ""
    return answer if answer and answer.lower() not in _PLACEHOLDERS else None


def _from_dictionary(text: str, cue: str) -> str | None:
    key = cue.lower()
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end:
        for read in (json.loads, _literal):
            try:
                found = read(text[start : end + 1])
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, dict):
                value = {str(k).lower(): v for k, v in found.items()}.get(key)
                return value if isinstance(value, str) else "" if key in {str(k).lower() for k in found} else None
    quoted = re.search(
        rf"[\"']{re.escape(key)}[\"']\s*:\s*([\"'])(.*?)\1\s*(?:[,}}\n]|\Z)", text, re.IGNORECASE | re.DOTALL
    )
    return quoted.group(2) if quoted else None


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape in a completion is nobody's fault, and a warning would print it
        return ast.literal_eval(text)


def _first_line(text: str, cue: str) -> str | None:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    label, colon, rest = line.partition(":")
    if colon and label.strip().lower() == cue.lower():
        line = rest.strip()
    return line if line and len(line.split()) <= MAX_ANSWER_WORDS else None


def _strip_quotes(text: str) -> str:
    while len(text) >= 2 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    return text
