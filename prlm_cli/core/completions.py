"""Completions: the reasoning and the answer of what a policy wrote.

Differs from PrLM's released code (method reference, section 2): an answer is never read out of the thought (defects
2, 3).
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any, NamedTuple

MAX_ANSWER_WORDS = 64
UNTITLED = "(untitled)"
"""Stands for the title of a record that has none; it is no answer."""

_PLACEHOLDERS = frozenset({"generated title", "your title", "your title here", "title", "the title", UNTITLED})
_TAG = re.compile(r"<(/?)(think|answer)>", re.IGNORECASE)
_THINK = re.compile(r"<think>", re.IGNORECASE)
_END_THINK = re.compile(r"</think>", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_BOLD = "**"
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", _BOLD: _BOLD}


class Parsed(NamedTuple):
    """A completion taken apart; `answer` is None where none can be read."""

    reasoning: str | None
    answer: str | None


def parse(completion: str, *, cue: str, reasoning_opened: bool, long: bool = False) -> Parsed:
    """The reasoning and the answer of a completion (method reference 3.2).

    What follows the last </think> counts; a thought that was opened, by the prompt or in the text, and never closed has
    no answer. Then: the last <answer>, else a dictionary with the cue as key, else a quoted value after the cue, else
    the first line that is not empty, if it is short enough to be an answer; all lines, where the answer may be `long`.
    A placeholder is no answer.
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
    return Parsed(reasoning, _answer_in(rest, cue, long))


def is_well_formed(completion: str, *, cue: str, reasoning: bool, long: bool = False) -> bool:
    """Whether a readable answer follows exactly one closed, non-empty thought, or none without reasoning."""
    parsed = parse(completion, cue=cue, reasoning_opened=reasoning, long=long)
    if parsed.answer is None:
        return False
    if not reasoning:
        return not _TAG.search(completion)
    # A second <think> would let the policy farm the reward by repeating the template.
    opened = len(_THINK.findall(completion.strip().removeprefix("<think>")))
    return bool(parsed.reasoning) and len(_END_THINK.findall(completion)) == 1 and opened == 0


def without_tags(text: str) -> str:
    """The text with its tags of a thought or an answer opened up: it can neither open nor close one."""
    return _TAG.sub(r"< \1\2>", text)


def _answer_in(text: str, cue: str, long: bool) -> str | None:
    if answers := _ANSWER.findall(text):
        text = answers[-1]
    text = text.strip()
    found = _from_dictionary(text, cue)
    if found is None:
        found = _without_label(text, cue) if long else _first_line(text, cue)
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
    line = _without_label(next((line.strip() for line in text.splitlines() if line.strip()), ""), cue)
    return line if line and len(line.split()) <= MAX_ANSWER_WORDS else None


def _without_label(text: str, cue: str) -> str:
    """The text without the cue before it, which some models set in bold, alone or together with the answer."""
    label, colon, rest = text.partition(":")
    if not colon or label.strip(" *").lower() != cue.lower():
        return text
    rest = rest.strip()
    if not label.lstrip().startswith(_BOLD):
        return rest
    return rest.removeprefix(_BOLD).lstrip() if rest.startswith(_BOLD) else rest.removesuffix(_BOLD)


def _strip_quotes(text: str) -> str:
    for opening, closing in _QUOTES.items():
        inner = text[len(opening) : -len(closing)]
        if text == f"{opening}{inner}{closing}" and closing not in inner:
            return _strip_quotes(inner.strip())
    return text
