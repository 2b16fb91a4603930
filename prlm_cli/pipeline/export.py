"""`prlm export`: a policy for other programs, as an adapter for PEFT or as a whole model for transformers."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from prlm_cli.core.errors import DataError, RefusedError, StorageError
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.models.packages import package_of
from prlm_cli.pipeline.policies import Policy, choose_policy, load_policy
from prlm_cli.version import __version__

FACTS = "prlm.json"
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
# How far log-probabilities may be apart, in nats. Merging adds weights in the precision that the model has.
_TOLERANCES = {"torch.float32": 1e-3, "torch.float16": 0.1, "torch.bfloat16": 0.5}
_CHECKED_TEXTS = (
    "We describe a parser for a language with few resources.",
    "The build fails when the cache folder is missing.",
    "A short note on the weather of the last three winters, and on what the harvest owed to it.",
)


@dataclass(frozen=True)
class Exported:
    """What was written, and how far its log-probabilities are from the adapter's (nats); None for an adapter."""

    folder: Path
    base_model: str
    is_merged: bool
    largest_difference: float | None


def export(
    workspace: Workspace, name: str, folder: Path, *, merge: bool = False, reporter: Reporter | None = None
) -> Exported:
    """Writes a policy to a new folder: weights, tokenizer, and in `prlm.json` the form of the prompts it knows.

    Args:
        workspace: Where the run is.
        name: Of a finished policy run.
        folder: New or empty; it appears whole or not at all.
        merge: Write the base model with the adapter in its weights. One trained on 4 bits is merged into the base in 16
            or 32 bits, and compared with the adapter on that base.
        reporter: Told about progress.

    Raises:
        DataError: If the run is no finished policy, or the folder is not empty.
        MissingError: If the base model cannot be had.
        RefusedError: If the merged weights do not answer as the adapter does.
        StorageError: If the run's adapter is missing or damaged, or the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder", hint="name a new one")
    reporter = reporter or Silent()
    run = workspace.finished_run(name, "policy")
    config = choose_policy(workspace, run.name, lambda base: base or Config(), reporter).config
    config = structs.replace(config, model=structs.replace(config.model, qlora=False))
    policy = load_policy(config, run=run, reporter=reporter)
    base_model = package.hub_name if (package := package_of(config.model.name)) else config.model.name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "export"
            made.mkdir()
            difference = _write_merged(policy, made) if merge else None
            if not merge:
                _copy_adapter(run, base_model, made)
            policy.tokenizer.save_pretrained(made)
            (made / FACTS).write_text(json.dumps(_facts(policy, config, base_model, merge), indent=2) + "\n")
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror or error}", hint="check the disk and permissions") from error
    return Exported(folder, base_model, merge, difference)


def _copy_adapter(run: Run, base_model: str, folder: Path) -> None:
    for name in _ADAPTER_FILES:
        shutil.copyfile(run.adapter / name, folder / name)
    config = folder / "adapter_config.json"
    # The run knows its base by a folder of this machine.
    facts = json.loads(config.read_text()) | {"base_model_name_or_path": base_model}
    config.write_text(json.dumps(facts, indent=2) + "\n")


def _write_merged(policy: Policy, folder: Path) -> float:
    """Writes the merged weights and reads them again; the largest difference of log-probabilities, in nats."""
    import torch
    from transformers import AutoModelForCausalLM

    from prlm_cli.models.quiet import quiet_libraries

    prompts = [policy.builder.build(text, []).ids for text in _CHECKED_TEXTS]
    model = policy.model
    by_adapter = _log_probabilities(model, prompts)
    precision, device = model.dtype, model.device
    with quiet_libraries():
        model = model.merge_and_unload()
        model.save_pretrained(folder)
        merged = AutoModelForCausalLM.from_pretrained(folder, dtype=precision, local_files_only=True).to(device)
    pairs = zip(by_adapter, _log_probabilities(merged, prompts), strict=True)
    difference = float(torch.stack([(one - other).abs().max() for one, other in pairs]).max())
    if not difference <= _TOLERANCES[str(precision)]:  # nor is a NaN
        raise RefusedError(
            f"the merged weights are {difference:.3g} nats off the adapter's answers",
            hint="export it without --merge",
        )
    return difference


def _log_probabilities(model: Any, prompts: list[list[int]]) -> list[Any]:
    """(P, V) of each prompt."""
    import torch

    model.eval()
    with torch.no_grad():
        rows = [model(input_ids=torch.tensor([ids], device=model.device)).logits[0] for ids in prompts]
    return [row.float().log_softmax(-1) for row in rows]


def _facts(policy: Policy, config: Config, base_model: str, is_merged: bool) -> dict[str, Any]:
    """What another program must know to ask the policy as it was trained to be asked."""
    return {
        "base_model": base_model,
        "merged": is_merged,
        "task": config.prompt.task,
        "layout": config.prompt.layout,
        "reasoning": config.prompt.reasoning,
        "max_prompt_tokens": config.prompt.max_tokens,
        "max_new_tokens": config.generation.max_new_tokens or policy.max_new_tokens,
        "stop_token_ids": policy.stop_ids,
        "prompt_hash": policy.builder.hash,
        "prlm": __version__,
    }
