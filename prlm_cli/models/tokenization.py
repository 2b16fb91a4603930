"""A tokenizer as the prompt builder needs it. What a user wrote can never become a control token."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from prlm_cli.core.prompts import Prompt

AS_TEXT = {"split_special_tokens": True}
"""How a tokenizer is called on what somebody wrote: a "[SEP]" in it ends nothing."""

_PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


class TokenizerCodec:
    """The `Codec` of a Hugging Face tokenizer from `load_tokenizer`."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def opens_reasoning(self) -> bool:
        """Whether the chat template itself opens <think> in the reply."""
        if not self.tokenizer.chat_template:
            return False
        turn = [{"role": "user", "content": "x"}]
        rendered = self.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        return str(rendered).rstrip().endswith("<think>")

    @cached_property
    def accepts_system(self) -> bool:
        """Whether the chat template takes a system turn; some models' raise an error."""
        from jinja2 import TemplateError

        turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        try:
            self.tokenizer.apply_chat_template(turns, tokenize=False)
        except TemplateError:
            return False
        return True

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of the whole prompt; control tokens written in its messages are encoded as plain text.

        A chat layout for a tokenizer without a chat template is encoded as plain paragraphs.
        """
        messages = [message._asdict() for message in prompt.messages]
        is_chat = prompt.is_chat and bool(self.tokenizer.chat_template)
        if is_chat and messages[0]["role"] == "system" and not self.accepts_system:
            system, first, *rest = messages
            messages = [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]
        if prompt.is_chat and not is_chat:
            messages = [{**message, "content": message["content"] + "\n\n"} for message in messages]
        ids = self.tokenizer.apply_chat_template(
            messages,
            chat_template=None if is_chat else _PLAIN,
            add_generation_prompt=is_chat,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,
        )
        start = [] if is_chat else self._beginning
        return [*start, *ids, *self._encode_own(prompt.opening)]

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

    def encode_completion(self, completion: str) -> list[int]:
        """The ids of a completion to imitate, with the end token.

        The tags of the thought are ours; any other control token in it was written by somebody and stays text.
        """
        tags = [tag for tag in ("<think>", "</think>") if tag in self.tokenizer.get_added_vocab()]
        pieces = re.split(f"({'|'.join(tags)})", completion) if tags else [completion]
        ids = [i for piece in pieces for i in (self._encode_own if piece in tags else self._encode_text)(piece)]
        return [*ids, self.tokenizer.eos_token_id]

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
