"""Contrastive training of the reward model, through TRL's trainer.

Source: PrLM (arXiv 2508.07342), the Bradley-Terry loss `-log sigmoid(s(chosen) - s(rejected))`; here both scores see
the profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prlm_cli.core.records import PreferencePair
from prlm_cli.core.reporting import Stage
from prlm_cli.core.settings import RewardSettings
from prlm_cli.models.adapters import train_in_fp32
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.training.arguments import common_arguments
from prlm_cli.training.callbacks import Log, ReportProgress, StopOnSignal
from prlm_cli.training.checkpoints import SealCheckpoints, newest_complete
from prlm_cli.training.supervised import remove_printer

_SAVES = 4


def train_contrastive(
    reward_model: RewardModel,
    pairs: Sequence[PreferencePair],
    settings: RewardSettings,
    *,
    seed: int,
    checkpoints: Path,
    stage: Stage,
    log: Log,
) -> None:
    """Trains the adapter and head to score each chosen answer above its rejected one.

    Goes on from the newest complete checkpoint in `checkpoints`.

    Args:
        reward_model: Changed in place.
        pairs: The training set; chosen and rejected share query and profile.
        settings: Steps, batch size, learning rate.
        seed: Of the data order.
        checkpoints: Folder for checkpoints.
        stage: Progress.
        log: Takes each step's figures.

    Raises:
        Diverged: If the loss is not finite.
    """
    stop = StopOnSignal()
    with quiet_libraries(), stop:
        from datasets import Dataset
        from trl import RewardConfig, RewardTrainer

        rows = {
            "chosen_ids": [reward_model.encode(pair.text, pair.profile, pair.chosen) for pair in pairs],
            "rejected_ids": [reward_model.encode(pair.text, pair.profile, pair.rejected) for pair in pairs],
        }
        trainer = RewardTrainer(
            model=reward_model.model,
            args=RewardConfig(
                **common_arguments(checkpoints, steps=settings.steps, learning_rate=settings.learning_rate, seed=seed),
                per_device_train_batch_size=settings.batch_size,
                warmup_steps=max(1, settings.steps // 10),
                save_steps=max(1, settings.steps // _SAVES),
                max_length=None,
            ),
            train_dataset=Dataset.from_dict(rows),
            processing_class=reward_model.tokenizer,
            callbacks=[
                SealCheckpoints(),
                stop,
                ReportProgress(stage, log, {"loss": "loss", "accuracy": "accuracy"}),
            ],
        )
        remove_printer(trainer)
        train_in_fp32(trainer.model)  # TRL casts the adapters of a 4-bit model to bf16
        resume = newest_complete(checkpoints)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
