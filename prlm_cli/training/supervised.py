"""Supervised training on completions: the warm start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from prlm_cli.core.reporting import Silent, Stage
from prlm_cli.core.settings import WarmStartSettings
from prlm_cli.models.loading import is_in_bf16, is_quantised
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training.arguments import common_arguments, keep_to_one_gpu
from prlm_cli.training.callbacks import Log, ReportProgress, StopOnSignal
from prlm_cli.training.checkpoints import SealCheckpoints, train_on
from prlm_cli.training.completion_trainer import CompletionTrainer, Example
from prlm_cli.training.order import length_order

_SAVES = 4


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
    note: Callable[[str], None] | None = None,
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
        note: Takes a line when memory has run out and less is done at once.

    Raises:
        NotFinite: If the loss or the gradient is not finite.
        OutOfMemoryError: If a single example does not fit.
        StorageError: If a checkpoint cannot be written.
    """
    lengths = [len(example.prompt_ids) + len(example.completion_ids) for example in examples]
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
                bf16=is_in_bf16(model),
            ),
            per_device_train_batch_size=settings.batch_size,  # the trainer cuts the step by itself
            warmup_steps=max(1, settings.steps // 10),
            save_steps=max(1, settings.steps // _SAVES),
            max_grad_norm=1.0,
            remove_unused_columns=False,
            train_sampling_strategy="sequential",  # the order is written down
        )
        keep_to_one_gpu(arguments)
        trainer = CompletionTrainer(
            examples,
            pad_id=tokenizer.pad_token_id,
            micro_batch=settings.micro_batch,
            note=note or Silent().note,
            model=model,
            args=arguments,
            train_dataset=[{"example": n} for n in order],
            callbacks=callbacks,
        )
        remove_printer(trainer)
        train_on(trainer)


def remove_printer(trainer: Any) -> None:
    """Takes away the callback that prints figures to stdout."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
