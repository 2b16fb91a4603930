"""The two sides of the benchmark: a group of completions scored and drawn by stock TRL's functions, and by ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from transformers import GenerationConfig

from prlm_cli.core.settings import EMBEDDED_MODEL, ModelSettings, Precision
from prlm_cli.models.adapters import add_adapter
from prlm_cli.models.loading import load_base, resolve_model
from prlm_cli.training.shared_prefix import StreamSampling, rollouts, score_group
from tests.training.stock import scored_by_trl, with_trl_head

TEMPERATURE = 0.7


class Size(NamedTuple):
    """Tokens of a prompt, tokens of a completion, completions of a prompt."""

    prompt: int
    completion: int
    group: int

    @property
    def name(self) -> str:
        """As figures end in it."""
        return "_".join(map(str, self))

    @property
    def limit(self) -> float:
        """How many times fewer tokens there are where the prompt is computed once: G(P + C) / (P + GC)."""
        return self.group * (self.prompt + self.completion) / (self.prompt + self.group * self.completion)


SIZES = (Size(320, 48, 8), Size(512, 64, 8), Size(1024, 64, 8), Size(256, 128, 4))


class Group(NamedTuple):
    """A prompt and its completions."""

    prompt: list[int]
    completions: list[list[int]]


def random_group(size: Size, vocabulary: int, *, lengths: list[int] | None = None) -> Group:
    """Random tokens; completions are full, or of those lengths."""
    numbers = torch.Generator().manual_seed(0)
    lengths = lengths or [size.completion] * size.group
    prompt, *completions = (
        torch.randint(1, vocabulary, (length,), generator=numbers).tolist() for length in (size.prompt, *lengths)
    )
    return Group(prompt, completions)


def embedded_policy(precision: Precision = "auto") -> Any:
    """The embedded model with a new adapter, as a training begins; TRL's head is added as its trainer does."""
    settings = ModelSettings(precision=precision)
    return prepared(add_adapter(load_base(resolve_model(EMBEDDED_MODEL), settings), settings, seed=0))


def prepared(model: Any) -> Any:
    """The model in training mode, with TRL's head and an adapter that has an effect; no token ends a completion."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)  # at first it is 0, and so is half of the gradient
    with_trl_head(model, TEMPERATURE)
    model.generation_config.eos_token_id = None
    return model.train()


def scored_by_stock(
    model: Any, groups: list[Group], precision: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> torch.Tensor:
    """The log-probabilities of all completion tokens, by TRL's own function: a row a completion."""
    return scored_by_trl(model, groups, precision)[0]


def scored_by_us(
    model: Any, groups: list[Group], precision: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> torch.Tensor:
    """The same, a packed sequence a group."""
    with precision():
        scored = [one for group in groups for one in score_group(model, *group, TEMPERATURE)]
    return torch.cat([one.logps for one in scored])


@contextmanager
def head_on_completions() -> Iterator[None]:
    """Lets stock TRL pass only completion tokens through the head, as it does on a GPU.

    And in tiles of a size that suits a CPU: its own, made for a GPU, take half as long again.
    """
    with (
        patch("trl.trainer.utils._use_triton", lambda device: True),
        patch("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", 8192),
    ):
        yield


def drawn_by_stock(model: Any, prompts: list[list[int]], size: Size, stop_ids: list[int]) -> list[list[int]]:
    """Completions of prompts of one length, by `generate`."""
    ids = torch.tensor(prompts, device=model.device).repeat_interleave(size.group, dim=0)
    how = GenerationConfig(
        max_new_tokens=size.completion,
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=0,
        pad_token_id=0,
        eos_token_id=stop_ids or None,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=how)
    return [_until_end(row, set(stop_ids)) for row in output[:, ids.shape[1] :].tolist()]


def drawn_by_us(model: Any, prompts: list[list[int]], size: Size, stop_ids: list[int]) -> list[list[int]]:
    """The same, each prompt read once."""
    draw = StreamSampling(TEMPERATURE, len(prompts) * size.group)
    torch.manual_seed(0)
    return rollouts(model, prompts, size.group, draw=draw, max_new_tokens=size.completion, stop_ids=set(stop_ids))


def _until_end(ids: list[int], stop_ids: set[int]) -> list[int]:
    return ids[: next((n + 1 for n, token in enumerate(ids) if token in stop_ids), len(ids))]
