"""An encoder as the network of a reward model, such as BERT: trained whole.

The input is a pair, `[CLS] digest | query [SEP] answer [SEP]`; the digest holds the titles of the records first, since
the style lives there, then their texts, and takes at most half of the room. Without records the first part is the query
alone, as in PrLM (arXiv 2508.07342).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from prlm_cli.core.errors import SettingsError, StorageError
from prlm_cli.core.records import ProfileDocument
from prlm_cli.models.encoder import without_surrogates
from prlm_cli.models.loading import device_and_dtype, unfit_models_named
from prlm_cli.models.packing import batches
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.models.reward_model import Encoded
from prlm_cli.models.scorer import Item
from prlm_cli.models.tokenization import AS_TEXT, beginning_of, pair_limit

_TOKENS_A_BATCH = 4096  # padding included


class EncoderNetwork(torch.nn.Module):
    """The network of an encoder with a head of one score.

    Args:
        model: A sequence classifier with one label.
        tokenizer: Of the model.
        max_tokens: What the first part has at most; the limit of the model holds as well.
        max_answer_tokens: What goes beyond is cut off an answer.
    """

    learning_rate = 5e-5

    def __init__(self, model: Any, tokenizer: Any, *, max_tokens: int, max_answer_tokens: int) -> None:
        super().__init__()
        self.model = model
        self._tokenizer = tokenizer
        self._limit = pair_limit(model, tokenizer)
        self._max_tokens = max_tokens
        self._max_answer_tokens = min(max_answer_tokens, self._limit // 2)

    def encode(self, items: Sequence[Item]) -> list[Encoded]:
        """The items as ids of a pair and their segments; the first part loses its end where both are too long."""
        return [self._encode(item) for item in items]

    def forward(self, inputs: Sequence[Encoded]) -> torch.Tensor:
        """(N,) scores in fp32, in the order of the inputs; the gradient flows."""
        longest = max(len(one.ids) for one in inputs)
        pad, device = self._tokenizer.pad_token_id or 0, self.model.device
        fields = {
            "input_ids": [[*one.ids, *[pad] * (longest - len(one.ids))] for one in inputs],  # (N, T)
            "attention_mask": [[1] * len(one.ids) + [0] * (longest - len(one.ids)) for one in inputs],
        }
        if inputs[0].more:
            fields["token_type_ids"] = [[*one.more, *[0] * (longest - len(one.more))] for one in inputs]
        scores: torch.Tensor = self.model(**{n: torch.tensor(rows, device=device) for n, rows in fields.items()}).logits
        return scores[:, 0].float()

    def batches(self, inputs: Sequence[Encoded]) -> Iterator[list[int]]:
        """The positions of the inputs in batches of a bounded number of tokens."""
        return batches([len(one.ids) for one in inputs], _TOKENS_A_BATCH)

    @contextlib.contextmanager
    def scoring(self) -> Iterator[None]:
        """A block in eval mode."""
        was_training = self.model.training
        try:
            self.model.train(False)
            yield
        finally:
            self.model.train(was_training)

    def save(self, folder: Path) -> None:
        """Writes the model as safetensors, with its tokenizer."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with quiet_libraries():
            self.model.save_pretrained(folder)
            self._tokenizer.save_pretrained(folder)

    def restore(self, folder: Path) -> None:
        """Puts saved weights into the network, in place."""
        from safetensors.torch import load_file

        self.model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)  # buffers are not saved

    def _encode(self, item: Item) -> Encoded:
        answer = beginning_of(_one_line(item.answer), self._max_answer_tokens, self._tokenizer)
        taken = self._count(answer) + self._tokenizer.num_special_tokens_to_add(pair=True)
        room = min(self._max_tokens, self._limit - taken)
        first = _one_line(item.text)
        if item.profile:
            first = f"{beginning_of(_digest(item.profile), room // 2, self._tokenizer)} | {first}"
        pair = self._tokenizer(first, answer, truncation="only_first", max_length=room + taken, **AS_TEXT)
        return Encoded(tuple(pair["input_ids"]), tuple(pair.get("token_type_ids", ())))

    def _count(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False, **AS_TEXT)["input_ids"])


def load_encoder_network(
    folder: Path, *, max_tokens: int, max_answer_tokens: int, seed: int | None = None
) -> EncoderNetwork:
    """The network of an encoder, in fp32, on a GPU where there is one.

    Args:
        folder: Of any encoder, or what `save` wrote.
        max_tokens: What the first part has at most.
        max_answer_tokens: What an answer has at most.
        seed: Of a new head; without it, the folder must hold one.

    Raises:
        SettingsError: If it is no encoder that can be given a score.
        StorageError: If it is no reward model, or a damaged one, and there is no seed.
    """
    torch.manual_seed(seed or 0)
    try:
        model, tokenizer, is_whole = _load(folder)
    except SettingsError as error:
        if seed is not None:
            raise
        raise StorageError(f"the reward model in {folder} is damaged", hint="train it again") from error
    if seed is None and not is_whole:
        raise StorageError(f"{folder} holds no head of a reward model", hint="train it again")
    return EncoderNetwork(
        model.to(device_and_dtype()[0]), tokenizer, max_tokens=max_tokens, max_answer_tokens=max_answer_tokens
    )


def _load(folder: Path) -> tuple[Any, Any, bool]:
    """The model and tokenizer of a folder, and whether it held a head of one score."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet_libraries(), unfit_models_named(str(folder)):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="right")
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=1,
            ignore_mismatched_sizes=True,  # a head of more labels is replaced
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    return model, tokenizer, not (loaded["missing_keys"] or loaded["mismatched_keys"])


def _digest(profile: Sequence[ProfileDocument]) -> str:
    titles = [record.title for record in profile if record.title]
    return _one_line(" | ".join([*titles, *(record.text for record in profile)]))


def _one_line(text: str) -> str:
    return without_surrogates(" ".join(text.split()))
