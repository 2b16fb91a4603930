"""Supervised training on completions: the warm start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

from prlm_cli.core.reporting import Stage
from prlm_cli.core.settings import WarmStartSettings
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training.arguments import common_arguments
from prlm_cli.training.callbacks import Log, ReportProgress, StopOnSignal
from prlm_cli.training.checkpoints import SealCheckpoints, newest_complete

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
    rows = [
        {
            "input_ids": example.prompt_ids + example.completion_ids,
            "attention_mask": [1] * (len(example.prompt_ids) + len(example.completion_ids)),
            "labels": [_IGNORED] * len(example.prompt_ids) + example.completion_ids,
        }
        for example in examples
    ]
    micro_batch = settings.micro_batch or settings.batch_size
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
            ),
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=settings.batch_size // micro_batch,
            warmup_steps=max(1, settings.steps // 10),
            save_steps=max(1, settings.steps // _SAVES),
            max_grad_norm=1.0,
            remove_unused_columns=False,
            train_sampling_strategy="group_by_length",
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=_IGNORED),
            callbacks=callbacks,
        )
        remove_printer(trainer)
        resume = newest_complete(checkpoints)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)


def remove_printer(trainer: Any) -> None:
    """Takes away the callback that prints figures to stdout."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
