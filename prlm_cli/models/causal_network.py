"""A causal language model as the network of a reward model: an adapter, and a head of one score.

The input is the policy's prompt in the layout `completion`, packed by the same builder, and the answer after it; the
score is read at the answer's last token. Answers to one prompt are packed into one sequence (`packing`), so the prompt
is computed once.

The head is a matrix of its own beside the adapter, not one within the model: so the adapter can be a second one on a
policy's base, and both are in memory once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from prlm_cli.core.errors import StorageError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.settings import ModelSettings
from prlm_cli.models.adapters import (
    DEFAULT,
    active_adapter,
    add_adapter,
    load_adapter,
    restore_adapter,
    save_adapter,
)
from prlm_cli.models.packing import Tree, backbone, batches, ends, hidden_states, pack, why_not_packed
from prlm_cli.models.reward_model import Encoded
from prlm_cli.models.scorer import Item
from prlm_cli.models.tokenization import TokenizerCodec

_HEAD_FILE = "score_head.safetensors"
_TOKENS_A_BATCH = 4096  # padding included
_TOKENS_A_TREE = 2048  # attention grows with its square
_HEAD_SPREAD = 0.02  # what the library gives the heads of its sequence classifiers


class CausalNetwork(torch.nn.Module):
    """The network of a causal model with an adapter.

    Args:
        model: With an adapter of that name; it may be a policy that has others.
        head: (D) -> one score, in fp32.
        builder: Packs the prompt; its layout is `completion`, without reasoning.
        max_answer_tokens: What goes beyond is cut off an answer.
        adapter: Its name.
    """

    learning_rate = 2e-4

    def __init__(
        self,
        model: Any,
        head: torch.nn.Linear,
        builder: PromptBuilder,
        *,
        max_answer_tokens: int,
        adapter: str = DEFAULT,
    ) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.builder = builder
        self.shares_prompts = not why_not_packed(model)
        self._max_answer_tokens = max_answer_tokens
        self._adapter = adapter

    def encode(self, items: Sequence[Item]) -> list[Encoded]:
        """The items as ids of a prompt and an answer, which has no end token.

        The packer makes the prompt fit; an answer is one line and keeps its first tokens.
        """
        codec = self.builder.codec
        assert isinstance(codec, TokenizerCodec)
        prompts: dict[tuple[str, tuple[ProfileDocument, ...]], tuple[int, ...]] = {}  # packing takes time
        encoded = []
        for text, profile, answer in items:
            key = (text, tuple(profile))
            if key not in prompts:
                prompts[key] = tuple(self.builder.build(text, profile).ids)
            ids = codec.encode_completion(self.builder.completion(answer), after=self.builder.opening)[:-1]
            encoded.append(Encoded(prompts[key], tuple(ids[: self._max_answer_tokens])))
        return encoded

    def forward(self, inputs: Sequence[Encoded]) -> torch.Tensor:
        """(N,) scores in fp32, in the order of the inputs; the gradient flows to what is trainable."""
        states = self._packed_states(inputs) if self.shares_prompts else self._states(inputs)  # (N, D)
        with torch.autocast(states.device.type, enabled=False):  # half precision would round the scores
            scores: torch.Tensor = self.head(states.float())
        return scores[:, 0]

    def batches(self, inputs: Sequence[Encoded]) -> Iterator[list[int]]:
        """The positions of the inputs in batches of a bounded number of tokens; answers to one prompt together."""
        if not self.shares_prompts:
            yield from batches([len(prompt) + len(answer) for prompt, answer, _ in inputs], _TOKENS_A_BATCH)
            return
        parts: list[list[int]] = []
        lengths: list[int] = []
        for prompt, positions in _by_prompt(inputs).items():
            full = True
            for n in positions:
                more = 1 + len(inputs[n][1])
                if full or lengths[-1] + more > _TOKENS_A_TREE:
                    parts.append([])
                    lengths.append(len(prompt) - 1)
                    full = False
                parts[-1].append(n)
                lengths[-1] += more
        for batch in batches(lengths, _TOKENS_A_BATCH):
            yield [n for part in batch for n in parts[part]]

    def scoring(self) -> AbstractContextManager[None]:
        """A block with the own adapter active, in eval mode; a policy around it is as before after it."""
        return active_adapter(self.model, self._adapter)

    def save(self, folder: Path) -> None:
        """Writes the adapter and the head as safetensors."""
        from safetensors.torch import save_file

        save_adapter(self.model, folder)
        save_file({"weight": self.head.weight.detach().cpu().contiguous()}, folder / _HEAD_FILE)

    def restore(self, folder: Path) -> None:
        """Puts a saved adapter and head into the network, in place."""
        restore_adapter(self.model, folder)
        with torch.no_grad():
            self.head.weight.copy_(_load_head(folder, self.model).weight)

    def _packed_states(self, inputs: Sequence[Encoded]) -> torch.Tensor:
        """(N, D): the state of each answer's last token; each prompt is computed once."""
        groups = _by_prompt(inputs)
        trees = [Tree(prompt, [inputs[n][1] for n in positions]) for prompt, positions in groups.items()]
        hidden = hidden_states(self.model, pack(trees, device=self.model.device))  # (B, L, D)
        rows = [row for row, tree in enumerate(trees) for _ in tree.continuations]
        columns = [end for tree in trees for end in ends(tree)]
        order = torch.tensor([n for positions in groups.values() for n in positions])
        return hidden[rows, columns][order.argsort().to(hidden.device)]

    def _states(self, inputs: Sequence[Encoded]) -> torch.Tensor:
        """(N, D): the same, each input in a row of its own."""
        lengths = [len(prompt) + len(answer) for prompt, answer, _ in inputs]
        padding = [[0] * (max(lengths) - length) for length in lengths]
        ids = [[*prompt, *answer, *pad] for (prompt, answer, _), pad in zip(inputs, padding, strict=True)]
        mask = [[1] * length + pad for length, pad in zip(lengths, padding, strict=True)]
        device = self.model.device
        hidden: torch.Tensor = backbone(self.model)(
            input_ids=torch.tensor(ids, device=device),  # (N, T)
            attention_mask=torch.tensor(mask, device=device),
            use_cache=False,
        ).last_hidden_state
        return hidden[list(range(len(lengths))), [length - 1 for length in lengths]]


def new_causal_network(
    base: Any, settings: ModelSettings, builder: PromptBuilder, *, max_answer_tokens: int, seed: int
) -> CausalNetwork:
    """A network to train: a new adapter on a base model from `load_base`, and a new head."""
    model = add_adapter(base, settings, seed=seed)
    head = _head(model)
    torch.nn.init.normal_(head.weight, std=_HEAD_SPREAD, generator=torch.Generator().manual_seed(seed))
    return CausalNetwork(model, head.to(model.device), builder, max_answer_tokens=max_answer_tokens)


def load_causal_network(
    base: Any, folder: Path, builder: PromptBuilder, *, max_answer_tokens: int, adapter: str = DEFAULT
) -> CausalNetwork:
    """A trained network.

    Args:
        base: A base model, or one with adapters, which gets this one too.
        folder: What `save` wrote.
        builder: Packs the prompt.
        max_answer_tokens: What goes beyond is cut off an answer.
        adapter: The name of the adapter.

    Raises:
        StorageError: If the folder is damaged, or its weights are for another base model.
    """
    head = _load_head(folder, base)
    model = load_adapter(base, folder, trainable=False, name=adapter)
    head = head.to(model.device).requires_grad_(False)
    return CausalNetwork(model, head, builder, max_answer_tokens=max_answer_tokens, adapter=adapter)


def _head(model: Any) -> torch.nn.Linear:
    return torch.nn.Linear(model.config.get_text_config().hidden_size, 1, bias=False, dtype=torch.float32)


def _load_head(folder: Path, model: Any) -> torch.nn.Linear:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    head = _head(model)
    try:
        weight = load_file(folder / _HEAD_FILE)["weight"]
    except (OSError, SafetensorError, KeyError) as error:
        raise StorageError(f"{folder} holds no head of a reward model", hint="train it again") from error
    if weight.shape != head.weight.shape:
        raise StorageError(f"{folder} does not fit the base model", hint="use the model it was trained on")
    with torch.no_grad():
        head.weight.copy_(weight)
    return head


def _by_prompt(inputs: Sequence[Encoded]) -> dict[tuple[int, ...], list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for n, (prompt, *_) in enumerate(inputs):
        groups.setdefault(prompt, []).append(n)
    return groups
