"""Families of chat models: templates in the style of each, written for these tests, and a tokenizer for each.

Only the control tokens are those of the public models; the vocabulary is learnt from a few sentences.
"""

# ruff: noqa: RUF001  (DeepSeek's control tokens have a bar of their own)

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from prlm_cli.models.loading import load_tokenizer

_SENTENCES = [
    "We study how parsers read trees of words, and why short names last.",
    "Text: the query\nTitle: Trees of words\n\nMessage: they fix the parser\nSubject: Fix the parser\n",
    "First reason about the author's way between <think> and </think>, then write one line: Title: and the answer.",
    "<think>\nThey are short, with a colon.\n</think>\n\nTitle: Short Trees",
] * 4
_THINK_TAGS = ("<think>", "</think>")


class Family(NamedTuple):
    """What sets a family of models apart.

    Args:
        template: The chat template; None for a base model.
        specials: Control tokens, the end token first; one that begins every text is named `begin`.
        end_of_turn: What ends a reply in a chat.
        begin: The token that begins every text, where there is one.
        has_pieces: Whether a space is part of the word after it and stands before any text (SentencePiece).
        spaces: White space of its vocabulary that are added tokens as well.
        thinks: Whether it thinks unasked.
        open_end: How a prompt ends, in turns and with a thought wanted.
        closed_end: How it ends with none wanted.
        repeats: Whether the template gives back a reply, word for word, that has a thought, and one that has none.
    """

    template: str | None
    specials: tuple[str, ...]
    end_of_turn: str
    begin: str | None = None
    has_pieces: bool = False
    spaces: tuple[str, ...] = ()
    thinks: bool = False
    open_end: str = ""
    closed_end: str = ""
    repeats: tuple[bool, bool] = (True, True)


def _each(turn: str) -> str:
    return "{% for message in messages %}" + turn + "{% endfor %}"


def _asks(beginning: str) -> str:
    return "{% if add_generation_prompt %}" + beginning + "{% endif %}"


_CHATML_TURN = "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
_WITHOUT_THOUGHT = "{% set said = message.content.split('</think>')[-1].lstrip('\n') %}"
_DEEPSEEK_TURN = (
    "{% if message.role == 'system' %}{{ message.content }}{% elif message.role == 'user' %}"
    "{{ '<｜User｜>' + message.content }}{% else %}"
    + _WITHOUT_THOUGHT
    + "{{ '<｜Assistant｜>' + said + '<｜end▁of▁sentence｜>' }}{% endif %}"
)
_DEEPSEEK = ("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
_QWEN3_TURN = (
    "{% if message.role == 'assistant' and loop.last %}"
    + _WITHOUT_THOUGHT
    + "{% set thought = message.content.split('</think>')[0].split('<think>')[-1].strip('\n')"
    " if '</think>' in message.content else '' %}"
    "{{ '<|im_start|>assistant\n<think>\n' + thought + '\n</think>\n\n' + said + '<|im_end|>\n' }}"
    "{% else %}" + _CHATML_TURN + "{% endif %}"
)

FAMILIES = {
    "ChatML": Family(
        template=_each(_CHATML_TURN) + _asks("{{ '<|im_start|>assistant\n' }}"),
        specials=("<|im_end|>", "<|im_start|>", "<|endoftext|>"),
        end_of_turn="<|im_end|>",
        open_end="<|im_start|>assistant\n<think>\n",
        closed_end="<|im_start|>assistant\n",
    ),
    "Llama 3": Family(
        template="{{ bos_token }}"
        + _each(
            "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim"
            " + '<|eot_id|>' }}"
        )
        + _asks("{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"),
        specials=("<|eot_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
        end_of_turn="<|eot_id|>",
        begin="<|begin_of_text|>",
        open_end="<|end_header_id|>\n\n<think>\n",
        closed_end="<|end_header_id|>\n\n",
    ),
    "Qwen 3": Family(  # thinks unless told not to, by a thought that is empty
        template=_each(_QWEN3_TURN)
        + _asks(
            "{{ '<|im_start|>assistant\n' }}"
            "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        ),
        specials=("<|im_end|>", "<|im_start|>", "<|endoftext|>"),
        end_of_turn="<|im_end|>",
        thinks=True,
        open_end="<|im_start|>assistant\n<think>\n",
        closed_end="<|im_start|>assistant\n<think>\n\n</think>\n\n",
        repeats=(False, True),
    ),
    "Qwen 3 Thinking": Family(  # always thinks: its template opens the thought
        template=_each(_QWEN3_TURN) + _asks("{{ '<|im_start|>assistant\n<think>\n' }}"),
        specials=("<|im_end|>", "<|im_start|>", "<|endoftext|>"),
        end_of_turn="<|im_end|>",
        thinks=True,
        open_end="<|im_start|>assistant\n<think>\n",
        closed_end="<|im_start|>assistant\n<think>\n\n</think>\n\n",
        repeats=(False, True),
    ),
    "DeepSeek R1 distilled": Family(  # opens the thought, and takes it out of earlier turns
        template="{{ bos_token }}" + _each(_DEEPSEEK_TURN) + _asks("{{ '<｜Assistant｜><think>\n' }}"),
        specials=_DEEPSEEK,
        end_of_turn="<｜end▁of▁sentence｜>",
        begin="<｜begin▁of▁sentence｜>",
        thinks=True,
        open_end="<｜Assistant｜><think>\n",
        closed_end="<｜Assistant｜><think>\n\n</think>\n\n",
        repeats=(False, False),
    ),
    "DeepSeek R1 distilled, first": Family(  # the model opens the thought by itself
        template="{{ bos_token }}" + _each(_DEEPSEEK_TURN) + _asks("{{ '<｜Assistant｜>' }}"),
        specials=_DEEPSEEK,
        end_of_turn="<｜end▁of▁sentence｜>",
        begin="<｜begin▁of▁sentence｜>",
        thinks=True,
        open_end="<｜Assistant｜><think>\n",
        closed_end="<｜Assistant｜><think>\n\n</think>\n\n",
        repeats=(False, False),
    ),
    "Gemma": Family(  # no system turn, roles of its own, a turn does not end with the end token, line breaks are added
        template="{{ bos_token }}"
        + _each(
            "{% if message.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
            "{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n'"
            " + message.content | trim + '<end_of_turn>\n' }}"
        )
        + _asks("{{ '<start_of_turn>model\n' }}"),
        specials=("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        end_of_turn="<end_of_turn>",
        begin="<bos>",
        has_pieces=True,
        spaces=("\n",),
        open_end="<start_of_turn>model\n<think>\n",
        closed_end="<start_of_turn>model\n",
    ),
    "Mistral": Family(  # turns must alternate; a reply ends with the end token
        template="{{ bos_token }}"
        + _each(
            "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns alternate') }}"
            "{% endif %}{% if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}"
            "{% else %}{{ message.content + eos_token }}{% endif %}"
        ),
        specials=("</s>", "<s>", "[INST]", "[/INST]"),
        end_of_turn="</s>",
        begin="<s>",
        has_pieces=True,
        open_end=" [/INST]<think>\n",
        closed_end=" [/INST]",
    ),
    "Phi 3": Family(  # leaves a system turn out, and a turn does not end with the end token
        template=_each(
            "{% if message.role != 'system' %}"
            "{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}{% endif %}"
        )
        + _asks("{{ '<|assistant|>\n' }}"),
        specials=("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"),
        end_of_turn="<|end|>",
        has_pieces=True,
        open_end="<|assistant|>\n<think>\n",
        closed_end="<|assistant|>\n",
    ),
    "words": Family(  # a template without control tokens
        template=_each("{{ message.role + ': ' + message.content + '\n' }}") + _asks("{{ 'assistant: ' }}"),
        specials=("</s>",),
        end_of_turn="</s>",
        open_end="\nassistant: <think>\n",
        closed_end="\nassistant: ",
        repeats=(False, False),  # nothing of it says where a reply ends
    ),
    "base": Family(
        template=None,
        specials=("<|endoftext|>",),
        end_of_turn="<|endoftext|>",
        open_end="\n\n<think>\n",
        closed_end="\n\n",
        repeats=(False, False),  # there is nothing to give it back
    ),
}


def tokenizer_of(family: Family, folder: Path) -> Any:
    """The tokenizer of a family, loaded from a folder as that of a model is."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer.from_str(_learnt(family.has_pieces))
    end, *others = family.specials
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=end,
        bos_token=family.begin,
        additional_special_tokens=others,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([*family.spaces, *(_THINK_TAGS if family.thinks else ())])
    tokenizer.chat_template = family.template
    tokenizer.save_pretrained(folder)
    return load_tokenizer(folder)


@lru_cache
def _learnt(has_pieces: bool) -> str:
    """A tokenizer with merges of its own: cutting a text elsewhere gives other tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if has_pieces:
        core = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        split = pre_tokenizers.Split  # words are learnt one by one, and then sought in whole texts
        core.pre_tokenizer = pre_tokenizers.Sequence([split("\n", "isolated"), split("▁", "merged_with_next")])
        core.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=420, show_progress=False, special_tokens=["<unk>", *alphabet], limit_alphabet=100
        )
    else:
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
    core.train_from_iterator(_SENTENCES, trainer)
    learnt = json.loads(core.to_str())
    learnt["added_tokens"] = []  # the bytes are words like others
    if has_pieces:
        learnt["pre_tokenizer"] = None
    return json.dumps(learnt)
