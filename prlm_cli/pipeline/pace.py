"""How long a policy training takes: tokens and decoding steps of a run, by the pace of a short calibration here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import structs

from prlm_cli.core.errors import MissingError
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.models.loading import cached_model
from prlm_cli.models.shapes import Shape
from prlm_cli.pipeline.memory import completion_tokens, tokens_of_step
from prlm_cli.pipeline.policies import load_policy

_PROMPT, _COMPLETION, _GROUP = 128, 16, 4  # of the calibration: small, so that it takes seconds
_DECODED = 4
_ROUNDS = 2  # after one that warms up


class Pace(NamedTuple):
    """What this machine does in a second: tokens forward and backward, tokens forward, and decoding steps."""

    trained: float
    read: float
    decoded: float


class Duration(NamedTuple):
    """Seconds of a run by part, with completions at their full length."""

    warm_start: float
    rollouts: float
    updates: float
    held_out: float

    @property
    def total(self) -> float:
        """Of the whole run."""
        return sum(self)


def calibrate(config: Config, reporter: Reporter) -> Pace:
    """Measures the model itself for some seconds: an update of one group, and decoding with as many rows as a step has.

    Raises:
        MissingError: If the model is not on this machine; nothing is downloaded for a plan.
    """
    if cached_model(config.model.name) is None:
        raise MissingError(
            f"the model '{config.model.name}' is not here to calibrate with", hint="`prlm pull` it first"
        )
    from prlm_cli.training.shared_prefix import why_not

    policy = load_policy(_resolved(config), trainable=True, reporter=reporter)
    policy.model.train()
    train = _train_packed if not why_not(policy.model) else _train_rows
    rows = config.policy.prompts_per_step * config.policy.num_generations
    tokens, seconds = train(policy.model)
    decoded = _decode(policy.model, rows, policy.tokenizer.pad_token_id)
    return Pace(tokens / seconds, _PROMPT / _read(policy.model), _DECODED / decoded)


def duration_of(shape: Shape, config: Config, pace: Pace) -> Duration:
    """The seconds of a run: steps times (reading the prompts, decoding, forward and backward), and what is around."""
    policy, completion = config.policy, completion_tokens(config)
    trained = tokens_of_step(shape, config)
    prompts = policy.prompts_per_step * (1 if shape.packs else policy.num_generations)
    rollout = prompts * config.prompt.max_tokens / pace.read + completion / pace.decoded
    batches = math.ceil(policy.eval_queries / config.generation.batch_size)
    judged = policy.eval_queries * config.prompt.max_tokens / pace.read + batches * completion / pace.decoded
    judged *= 2 if policy.eval_swapped else 1
    times_judged = 1 + math.ceil(policy.steps / policy.eval_steps)  # before the first step, and after the last
    has_warm_start = config.warm_start.kind != "none" and not policy.start_from
    supervised = config.warm_start.batch_size * (config.prompt.max_tokens + completion) / pace.trained
    start = config.warm_start.steps * supervised
    if config.warm_start.kind == "star":
        drawn = config.warm_start.max_queries * (1 + config.warm_start.samples)
        start += drawn * config.prompt.max_tokens / pace.read
        start += math.ceil(drawn / config.generation.batch_size) * completion / pace.decoded
    return Duration(
        warm_start=start if has_warm_start else 0.0,
        rollouts=policy.steps * rollout,
        updates=policy.steps * trained / pace.trained,
        held_out=times_judged * judged,
    )


def _resolved(config: Config) -> Config:
    """With a form of the prompt, which has no part in the pace."""
    prompt = structs.replace(config.prompt, layout="completion", reasoning="off")
    return structs.replace(config, prompt=prompt)


def _train_packed(model: Any) -> tuple[int, float]:
    from prlm_cli.training.shared_prefix import score_group

    def update() -> None:
        scored = score_group(model, [1] * _PROMPT, [[2] * _COMPLETION] * _GROUP, 1.0)
        sum(one.logps.sum() for one in scored).backward()  # type: ignore[union-attr]

    return _PROMPT - 1 + _GROUP * _COMPLETION, _seconds(update)


def _train_rows(model: Any) -> tuple[int, float]:
    import torch

    ids = torch.ones(_GROUP, _PROMPT + _COMPLETION, dtype=torch.long, device=model.device)

    def update() -> None:
        model(input_ids=ids, logits_to_keep=_COMPLETION).logits.log_softmax(-1)[..., 1].sum().backward()

    return ids.numel(), _seconds(update)


def _read(model: Any) -> float:
    """Seconds of reading one prompt."""
    import torch

    ids = torch.ones(1, _PROMPT, dtype=torch.long, device=model.device)
    with torch.no_grad():
        return _seconds(lambda: model(input_ids=ids, logits_to_keep=1))


def _decode(model: Any, rows: int, pad_id: int) -> float:
    """Seconds of decoding `_DECODED` tokens in that many rows."""
    import torch

    ids = torch.ones(rows, 2, dtype=torch.long, device=model.device)

    def generate(tokens: int) -> None:
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=pad_id,
        )

    first = _seconds(lambda: generate(1))
    return max(_seconds(lambda: generate(1 + _DECODED)) - first, 1e-6)


def _seconds(work: Callable[[], object]) -> float:
    """The least wall time of a few rounds: a busy moment only adds to it."""
    import torch

    taken = []
    for _ in range(1 + _ROUNDS):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])
