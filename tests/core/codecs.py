"""A tokenizer for tests of prompts: one token a byte, and two control tokens of its own."""

from __future__ import annotations

from dataclasses import dataclass

from prlm_cli.core.prompts import Prompt

START, END = 256, 257


@dataclass(frozen=True)
class ByteCodec:
    """Encodes a turn as START role newline content END newline; only its own control tokens are above 255."""

    opens_reasoning: bool = False

    @property
    def reasons_by_itself(self) -> bool:
        return self.opens_reasoning

    def begin_reply(self, *, reasons: bool) -> str:
        if self.opens_reasoning:
            return "" if reasons else "\n</think>\n\n"
        return "<think>\n" if reasons else ""

    def encode(self, prompt: Prompt) -> list[int]:
        if not prompt.is_chat:
            return [*"".join(message.content for message in prompt.messages).encode(), *prompt.opening.encode()]
        ids = []
        for role, content in prompt.messages:
            ids += [START, *f"{role}\n{content}".encode(), END, *b"\n"]
        return [
            *ids,
            START,
            *b"assistant\n",
            *(b"<think>\n" if self.opens_reasoning else b""),
            *prompt.opening.encode(),
        ]

    def count(self, text: str) -> int:
        return len(text.encode())

    def cut(self, text: str, tokens: int) -> str:
        return text.encode()[: max(0, tokens)].decode(errors="ignore")


def shown(ids: list[int]) -> str:
    """The text of ids, control tokens as « and »."""
    return b"".join({START: "«".encode(), END: "»".encode()}.get(i) or bytes([i]) for i in ids).decode()
