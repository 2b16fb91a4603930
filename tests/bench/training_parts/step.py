"""Whole optimiser steps of `train-policy` on real queries, ours beside stock TRL's: same model, data, seed, rewards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from msgspec import structs
from transformers import TrainerCallback

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.core.records import Query
from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.policies import load_policy
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.rewards import RewardContext
from prlm_cli.rewards.named import reward_named
from prlm_cli.training import shared_prefix
from prlm_cli.training.grpo import Rollout, train_grpo
from tests.bench.figures import Figures, interleaved, ratio
from tests.bench.training_parts.sides import head_on_completions

_STEPS = 1  # a round; stock takes a minute for one
_SAME = ("loss", "grad_norm", "reward", "completions/mean_length")


@contextmanager
def _stock() -> Iterator[None]:
    """The trainer is stock TRL where the prompt cannot be shared."""
    with patch.object(shared_prefix, "why_not", lambda model: "stock"):
        yield


@contextmanager
def _stock_head_on_completions() -> Iterator[None]:
    with _stock(), head_on_completions():
        yield


_SIDES = {"ours": nullcontext, "stock": _stock, "stock_head_on_completions": _stock_head_on_completions}


class Steps(NamedTuple):
    """CPU seconds of each step, and what the trainer logged of it."""

    seconds: list[float]
    logged: list[dict[str, float]]


class _Clock(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.steps = Steps([], [])

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begin = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps.seconds.append(time.process_time() - self._begin)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        self.steps.logged.append(logs)


def measure_step(figures: Figures, rounds: int, data: Path, folder: Path, *assignments: str) -> None:
    """Adds how much faster our steps are, and the largest difference of what is logged of them."""
    config = resolve(
        assignments=[
            "prompt.reasoning=off",
            "policy.learning_rate=1e-9",  # so that all steps are the same on both sides
            f"policy.steps={_STEPS}",
            "policy.save_steps=1000",
            *assignments,
        ]
    )
    config = structs.replace(config, prompt=structs.replace(config.prompt, layout="completion"))
    workspace = Workspace(folder / "workspace")
    index(workspace, [data / "profiles.jsonl"])
    queries = islice(jsonl.read(data / "queries.train.jsonl", Query), _STEPS * config.policy.prompts_per_step)
    jsonl.write(folder / "queries.jsonl", queries)
    index(workspace, [folder / "queries.jsonl"], split="train")

    def steps(side: str, taken: list[int]) -> Steps:
        taken.append(1)
        return _steps(side, workspace, config, folder / f"{side}-{len(taken)}")

    runs = interleaved(rounds, {side: lambda side=side, taken=[]: steps(side, taken) for side in _SIDES})
    seconds = {side: [second for run in of_side for second in run.seconds] for side, of_side in runs.items()}
    for side in _SIDES:
        figures.add(f"step_s_{side}", min(seconds[side]), "CPU s")
        if side != "ours":
            figures.add(side.replace("stock", "step_speedup", 1), ratio(seconds[side], seconds["ours"]), "x")
    figures.add("step_difference", _difference(runs["ours"][0], runs["stock"][0]), "relative")


def _steps(side: str, workspace: Workspace, config: Config, checkpoints: Path) -> Steps:
    policy = load_policy(config, trainable=True, reporter=Silent())
    with workspace.open_store() as store:
        asked = list(retrieve(store, stored_queries(store, "train"), config.retrieval, seed=config.seed))
    rewards = {name: (reward_named(name)(RewardContext(policy.builder)), 1.0) for name in ("overlap", "format")}
    clock = _Clock()
    with _SIDES[side]():
        train_grpo(
            policy.model,
            policy.tokenizer,
            [Rollout(policy.builder.build(query.text, query.profile).ids, query) for query in asked],
            rewards,
            config.policy,
            stop_ids=policy.stop_ids,
            max_new_tokens=config.policy.max_new_tokens or policy.max_new_tokens,
            seed=config.seed,
            checkpoints=checkpoints,
            callbacks=[clock],
        )
    return clock.steps


def _difference(ours: Steps, stock: Steps) -> float:
    """The largest difference of a logged figure, relative to the larger one; figures near 0 are taken as they are."""
    return max(
        abs(a[key] - b[key]) / max(abs(a[key]), abs(b[key]), 1.0)
        for a, b in zip(ours.logged[:_STEPS], stock.logged[:_STEPS], strict=True)
        for key in _SAME
    )
