"""A tokenizer as the prompt builder needs it. What a user wrote can never become a control token."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any

from prlm_cli.core.prompts import Prompt

AS_TEXT = {"split_special_tokens": True}
"""How a tokenizer is called on what somebody wrote: a "[SEP]" in it ends nothing."""

_PROBE = "probe"
_PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


class TokenizerCodec:
    """The `Codec` of a Hugging Face tokenizer from `load_tokenizer`."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def _template(self) -> str:
        """The chat template; empty where there is none."""
        return str(self.tokenizer.get_chat_template()) if self.tokenizer.chat_template else ""

    @cached_property
    def reasons_by_itself(self) -> bool:
        """Whether the model thinks unasked: its chat template opens, closes or takes out thoughts."""
        return "think>" in self._template

    @cached_property
    def accepts_system(self) -> bool:
        """Whether the chat template shows a system turn; some models' raise an error or leave it out."""
        from jinja2 import TemplateError

        turns = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "u"}]
        try:
            return _PROBE in self._rendered(turns)
        except TemplateError:
            return False

    @cached_property
    def end_of_turn(self) -> int:
        """The token that ends a reply in a chat: the template's, which need not be the tokenizer's end token."""
        if self._template:
            turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": _PROBE}]
            after = self._encode_own(self._rendered(turns).rpartition(_PROBE)[2])
            ends = [i for i in after if i in self.tokenizer.added_tokens_decoder]
            if ends:
                return ends[0]
        return int(self.tokenizer.eos_token_id)

    def begin_reply(self, *, reasons: bool) -> str:
        """What is to follow the template's own beginning of a reply: then a thought is open, or none can begin.

        A model that thinks unasked is stopped as such models are trained to be: by a thought that is empty.
        """
        begun = self.replies[reasons]
        is_open = begun.rfind("<think>") > begun.rfind("</think>")
        if reasons:
            return "" if is_open else "<think>\n"
        if is_open:
            return "\n</think>\n\n"
        return "<think>\n\n</think>\n\n" if self.reasons_by_itself and "</think>" not in begun else ""

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of the whole prompt; control tokens written in its messages are encoded as plain text.

        A chat layout for a tokenizer without a chat template is encoded as plain paragraphs.
        """
        messages = [message._asdict() for message in prompt.messages]
        is_chat = prompt.is_chat and bool(self._template)
        if is_chat and messages[0]["role"] == "system" and not self.accepts_system:
            system, first, *rest = messages
            messages = [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]
        if prompt.is_chat and not is_chat:
            messages = [{**message, "content": message["content"] + "\n\n"} for message in messages]
        ids = self.tokenizer.apply_chat_template(
            messages,
            # The opening is part of the template, so that it is encoded together with what stands before it.
            chat_template=(self._template if is_chat else _PLAIN) + f"{{{{ {json.dumps(prompt.opening)} }}}}",
            add_generation_prompt=is_chat,
            enable_thinking=prompt.reasons,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,
        )
        start = [] if is_chat else self._beginning
        return [*start, *ids]

    def count(self, text: str) -> int:
        """How many tokens a plain text takes."""
        return len(self._encode_text(text))

    def cut(self, text: str, tokens: int) -> str:
        """The longest beginning of a text that takes at most so many tokens; whole characters only."""
        ids = self._encode_text(text)
        if len(ids) <= tokens:
            return text
        for end in range(tokens, 0, -1):
            beginning = str(self.tokenizer.decode(ids[:end], skip_special_tokens=False))
            if text.startswith(beginning) and self.count(beginning) <= tokens:
                return beginning.rstrip()
        return ""

    def encode_completion(self, completion: str, *, after: str = "", in_chat: bool = False) -> list[int]:
        """The ids of a completion to imitate, and the token that ends it.

        Args:
            completion: The tags of the thought in it are ours; any other control token was written by somebody and
                stays text.
            after: How the prompt ends, which it goes on from: some tokenizers put a space before any text.
            in_chat: End it as a turn ends.
        """
        before, whole = self._encode_tagged(after), self._encode_tagged(after + completion)
        goes_on = whole[: len(before)] == before
        ids = whole[len(before) :] if goes_on else self._encode_tagged(completion)
        return [*ids, self.end_of_turn if in_chat else self.tokenizer.eos_token_id]

    @cached_property
    def line_ends(self) -> list[int]:
        """The tokens that are white space with a line break: where a one-line answer ends."""
        ids = range(len(self.tokenizer))
        texts = self.tokenizer.batch_decode([[i] for i in ids])
        return [i for i, text in zip(ids, texts, strict=True) if "\n" in text and not text.strip()]

    @cached_property
    def _beginning(self) -> list[int]:
        """The tokens that the tokenizer puts before every text, such as a beginning-of-sequence token."""
        return [i for i in self.tokenizer("")["input_ids"] if i != self.tokenizer.eos_token_id]

    def _rendered(self, turns: list[dict[str, str]], **options: Any) -> str:
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, **options))

    @cached_property
    def replies(self) -> dict[bool, str]:
        """How the template itself begins a reply, with and without a thought; only some templates know the switch."""
        if not self._template:
            return {True: "", False: ""}
        turn = [{"role": "user", "content": "u"}]
        return {
            reasons: self._rendered(turn, enable_thinking=reasons, add_generation_prompt=True).removeprefix(
                self._rendered(turn, enable_thinking=reasons)
            )
            for reasons in (True, False)
        }

    def _encode_tagged(self, text: str) -> list[int]:
        tags = [tag for tag in ("<think>", "</think>") if tag in self.tokenizer.get_added_vocab()]
        pieces = re.split(f"({'|'.join(tags)})", text) if tags else [text]
        return [i for piece in pieces for i in (self._encode_own if piece in tags else self._encode_text)(piece)]

    def _encode_text(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _encode_own(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def beginning_of(text: str, tokens: int, tokenizer: Any) -> str:
    """The beginning of a text that is so many tokens long; the whole text where it is no longer."""
    options = {"truncation": True, "max_length": tokens, "return_offsets_mapping": True, **AS_TEXT}
    offsets = tokenizer(text, add_special_tokens=False, **options)["offset_mapping"]
    return text[: offsets[-1][1]] if len(offsets) == tokens else text


def pair_limit(model: Any, tokenizer: Any) -> int:
    """The tokens that a pair of texts may have in a model that reads both together."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", tokenizer.model_max_length)
    if tokenizer.model_max_length <= positions:
        return int(tokenizer.model_max_length)
    return int(positions) - 2  # RoBERTa's first two are never a token's; a tokenizer that knows no limit says 1e30
