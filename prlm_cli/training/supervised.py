"""Supervised training on completions: the warm start."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from prlm_cli.core.reporting import Stage
from prlm_cli.core.settings import WarmStartSettings
from prlm_cli.models.loading import is_quantised
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training.arguments import common_arguments, keep_to_one_gpu
from prlm_cli.training.callbacks import Log, ReportProgress, StopOnSignal
from prlm_cli.training.checkpoints import SealCheckpoints, train_on
from prlm_cli.training.order import length_order

_IGNORED = -100
_SAVES = 4


class Example(NamedTuple):
    """A prompt and the completion to imitate, both as ids."""

    prompt_ids: list[int]
    completion_ids: list[int]


def train_supervised(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    settings: WarmStartSettings,
    *,
    seed: int,
    gradient_checkpointing: str = "auto",
    checkpoints: Path,
    stage: Stage,
    log: Log,
) -> None:
    """Trains the model's adapter to write the completions; only their tokens count in the loss.

    Goes on from the newest complete checkpoint in `checkpoints`.

    Args:
        model: With a trainable adapter; changed in place.
        tokenizer: Pads the batches.
        examples: The training set.
        settings: Steps, batch size, learning rate.
        seed: Of the data order.
        gradient_checkpointing: "on", "off", or "auto": where there is a GPU.
        checkpoints: Folder for checkpoints.
        stage: Progress.
        log: Takes each step's figures.
    """
    micro_batch = settings.micro_batch or settings.batch_size
    rows = [_row(example) for example in examples]
    lengths = [len(row["input_ids"]) for row in rows]
    order = length_order(lengths, settings.batch_size, settings.steps, seed)
    stop = StopOnSignal()
    callbacks: list[TrainerCallback] = [SealCheckpoints(), stop, ReportProgress(stage, log, {"loss": "loss"})]
    with quiet_libraries(), stop:
        arguments = TrainingArguments(
            **common_arguments(
                checkpoints,
                steps=settings.steps,
                learning_rate=settings.learning_rate,
                seed=seed,
                gradient_checkpointing=gradient_checkpointing,
                quantised=is_quantised(model),
            ),
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=settings.batch_size // micro_batch,
            warmup_steps=max(1, settings.steps // 10),
            save_steps=max(1, settings.steps // _SAVES),
            max_grad_norm=1.0,
            remove_unused_columns=False,
            train_sampling_strategy="sequential",  # the order is written down
        )
        keep_to_one_gpu(arguments)
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=[rows[n] for n in order],
            data_collator=partial(collate, pad_id=tokenizer.pad_token_id),
            callbacks=callbacks,
        )
        remove_printer(trainer)
        train_on(trainer)


def collate(rows: Sequence[dict[str, Any]], *, pad_id: int) -> dict[str, Any]:
    """A batch, padded on the left: the completions end together, so the head reads only the last positions.

    With a prompt of hundreds of tokens, the logits of the prompt would be most of the memory, and count for nothing.

    Returns:
        `input_ids`, `attention_mask` and `position_ids` (B, T); `labels` (B, K), of the last K positions, as many as
        `logits_to_keep` says: those of the longest completion, and the one before, which predicts its first token.
    """
    length = max(len(row["input_ids"]) for row in rows)  # T
    kept = min(length, 1 + max(len(row["labels"]) for row in rows))  # K
    input_ids, attention_mask, labels = [], [], []
    for row in rows:
        padding = length - len(row["input_ids"])
        input_ids.append([pad_id] * padding + row["input_ids"])
        attention_mask.append([0] * padding + [1] * len(row["input_ids"]))
        labels.append([_IGNORED] * (kept - len(row["labels"])) + row["labels"])
    mask = torch.tensor(attention_mask)
    return {
        "input_ids": torch.tensor(input_ids),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
        "labels": torch.tensor(labels),
        "logits_to_keep": kept,
    }


def _row(example: Example) -> dict[str, list[int]]:
    return {"input_ids": [*example.prompt_ids, *example.completion_ids], "labels": list(example.completion_ids)}


def remove_printer(trainer: Any) -> None:
    """Takes away the callback that prints figures to stdout."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
