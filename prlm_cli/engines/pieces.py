"""Prompts for a server whose tokenizer is not known: cut into pieces of about the size of a token.

A piece is a run of at most four letters or digits with the space before it, or one other character. English text has
about as many pieces as tokens; other text has more, so that a prompt is rather too short than too long.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from prlm_cli.core.prompts import Message, Prompt

_PIECE = re.compile(r" ?\w{1,4}|.", re.DOTALL)
_START = b"\x01"  # no leading zero byte may be lost in a number


class PieceCodec:
    """The `Codec` of a chat server; ids are numbers of the pieces' bytes, so that `messages_of` gets all back."""

    reasons_by_itself = False

    def begin_reply(self, *, reasons: bool) -> str:
        """The tag that opens a thought; a server's template is not known."""
        return "<think>\n" if reasons else ""

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of the messages. A server lets nobody begin its reply, so only a text that goes on has an opening."""
        messages = list(prompt.messages)
        if not prompt.is_chat:
            *messages, last = messages
            messages.append(Message(last.role, last.content + prompt.opening))
        return [_number(piece) for piece in _PIECE.findall(msgspec.json.encode(messages).decode())]

    def count(self, text: str) -> int:
        """How many pieces a text has."""
        return sum(1 for _ in _PIECE.finditer(text))

    def cut(self, text: str, tokens: int) -> str:
        """The first pieces of a text."""
        return "".join(_PIECE.findall(text)[: max(0, tokens)])


def messages_of(ids: Sequence[int]) -> list[Message]:
    """The messages of a prompt that `PieceCodec` encoded."""
    return msgspec.json.decode(b"".join(map(_bytes_of, ids)), type=list[Message])


def _number(piece: str) -> int:
    return int.from_bytes(_START + piece.encode(), "big")


def _bytes_of(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")[1:]
