"""The trainer arguments that all our trainings share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import TrainingArguments

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when TRL is imported, which pings once per trainer otherwise


def common_arguments(
    folder: Path,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    gradient_checkpointing: str = "auto",
    quantised: bool = False,
    bf16: bool = False,
) -> dict[str, Any]:
    """Keyword arguments for `TrainingArguments` and its children.

    Args:
        folder: Where checkpoints go, in the folder of the run.
        steps: Optimiser steps.
        learning_rate: The peak.
        seed: Of the data order and all sampling.
        gradient_checkpointing: "on", "off", or "auto": where there is a GPU.
        quantised: Whether the model's weights are in 4 bits. On a GPU the optimiser's moments are then in 8 bits, in
            pages that make room where memory is short (Dettmers et al., arXiv 2305.14314).
        bf16: Whether to compute in bf16 what may be, as a GPU that has it always does.
    """
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "learning_rate": learning_rate,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": not on_gpu,
        # TRL would turn it on by itself, also on a CPU.
        "bf16": (on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)) or bf16,
        "gradient_checkpointing": on_gpu if gradient_checkpointing == "auto" else gradient_checkpointing == "on",
        "optim": "paged_adamw_8bit" if quantised and on_gpu else "adamw_torch",
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",  # trackers come as callbacks of ours
        "run_name": folder.parent.name,
        "project": "prlm",
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "save_only_model": False,
        "save_total_limit": None,
    }


def keep_to_one_gpu(arguments: TrainingArguments) -> None:
    """Keeps a process from spreading the model over all the GPUs that it sees; those are for other processes."""
    arguments._n_gpu = min(arguments.n_gpu, 1)
