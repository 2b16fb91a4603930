"""The library's trainer on completions to imitate, with an update in passes of bounded memory.

The loss is the mean over the completion tokens of a step. Each pass adds its part of it, so neither the size of the
passes nor what becomes of it when memory runs out changes the step. As in GRPO the head works on a tile of tokens at a
time (`token_logps`): no logits of the vocabulary are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from transformers import Trainer

from prlm_cli.models.packing import backbone, transforms_logits
from prlm_cli.training.back_off import BackOff
from prlm_cli.training.token_logps import token_logps

_NO_TARGET = -100
_LESS_MEMORY = "set policy.gradient_checkpointing=on, lower prompt.max_tokens, or try --qlora"


class Example(NamedTuple):
    """A prompt and the completion to imitate, both as ids, neither of them empty."""

    prompt_ids: list[int]
    completion_ids: list[int]


class CompletionTrainer(Trainer):  # type: ignore[misc]
    """See the module.

    Args:
        examples: What the rows of the data set number.
        pad_id: Fills up shorter rows.
        micro_batch: Most examples of a pass; None: a step is a pass.
        note: Takes a line when memory has run out.
        arguments: Of the library's trainer.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        pad_id: int,
        micro_batch: int | None,
        note: Callable[[str], None],
        **arguments: Any,
    ) -> None:
        super().__init__(data_collator=_numbers, **arguments)
        self._examples = examples
        self._pad_id = pad_id
        self._passes = BackOff("examples at once", micro_batch, note, hint=_LESS_MEMORY)

    def training_step(
        self, model: Any, inputs: Mapping[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of a step, which is passed back.

        Raises:
            OutOfMemoryError: If a single example does not fit.
        """
        model.train()
        examples = [self._examples[n] for n in inputs["example"].tolist()]
        return self._passes.retried(lambda: self._pass_by_pass(model, examples))

    def _pass_by_pass(self, model: Any, examples: Sequence[Example]) -> torch.Tensor:
        model.zero_grad()  # of a try that ran out of memory
        tokens = sum(len(example.completion_ids) for example in examples)
        size = self._passes.most or len(examples)
        total = torch.zeros((), device=self.args.device)
        for start in range(0, len(examples), size):
            part = examples[start : start + size]
            self._passes.works_on(len(part), is_smallest=len(part) == 1)
            with self.compute_loss_context_manager():
                loss = negative_logp(model, part, self._pad_id) / tokens
            self.accelerator.backward(loss)
            total += loss.detach()
        return total


def negative_logp(model: Any, examples: Sequence[Example], pad_id: int) -> torch.Tensor:
    """Minus the log-probability of all completions, a scalar, in nats; its gradient flows.

    Args:
        model: A causal language model, with or without an adapter.
        examples: Of one pass.
        pad_id: Fills up shorter rows.
    """
    batch, targets = _padded(examples, pad_id, model.device)  # (B, T), (B, K)
    counts = targets != _NO_TARGET
    read = 1 + targets.shape[1]  # positions whose head is needed: the one before a token predicts it
    if transforms_logits(model):
        logits = model(**batch, logits_to_keep=read).logits[:, :-1]  # (B, K, V)
        return torch.nn.functional.cross_entropy(logits[counts].float(), targets[counts], reduction="sum")
    states = backbone(model)(**batch, use_cache=False).last_hidden_state[:, -read:-1]  # (B, K, D)
    logps, _ = token_logps(states[counts], model.get_output_embeddings(), targets[counts], 1.0)
    return -logps.sum()


def _padded(
    examples: Sequence[Example], pad_id: int, device: torch.device
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What the model reads, (B, T), and the tokens that are to be at the last K positions, (B, K).

    Padded on the left: the completions end together, so only the last positions pass the head.
    """
    length = max(len(prompt) + len(completion) for prompt, completion in examples)  # T
    longest = max(len(completion) for _, completion in examples)  # K
    ids, mask, targets = [], [], []
    for prompt, completion in examples:
        padding = length - len(prompt) - len(completion)
        ids.append([pad_id] * padding + prompt + completion)
        mask.append([0] * padding + [1] * (length - padding))
        targets.append([_NO_TARGET] * (longest - len(completion)) + completion)
    attention_mask = torch.tensor(mask, device=device)
    batch = {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": attention_mask,
        "position_ids": (attention_mask.cumsum(-1) - 1).clamp(min=0),
    }
    return batch, torch.tensor(targets, device=device)


def _numbers(rows: Sequence[Mapping[str, int]]) -> dict[str, torch.Tensor]:
    return {"example": torch.tensor([row["example"] for row in rows])}
