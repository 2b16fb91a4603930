"""What `prlm plan` promises beside what a step takes: random models, the functions that the trainer calls.

Bytes are counted twice: those of the tensors kept for the backward pass, each storage once; and all that torch's own
allocator hands out, at its peak. The precision of a GPU is had on a CPU by 16-bit weights under autocast.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from prlm_cli.core.configuration import resolve
from prlm_cli.core.settings import Config
from prlm_cli.models.adapters import add_adapter
from prlm_cli.models.shapes import shape_of_config
from prlm_cli.pipeline.memory import DeviceKind, Memory, memory_of
from prlm_cli.training import shared_prefix
from prlm_cli.training.completion_trainer import Example, negative_logp
from prlm_cli.training.micro_batches import Group, packed_passes
from tests.bench.figures import Figures, progress

_VOCABULARY = 8000


class Case(NamedTuple):
    """A model and a step."""

    name: str
    family: str
    sizes: dict[str, int]
    device: DeviceKind
    prompt: int
    completion: int
    group: int
    prompts: int
    checkpointing: str = "off"
    pass_tokens: int | None = None

    def settings(self) -> Config:
        """The settings of that step, and of a warm start on half of its completions: no reward model."""
        return resolve(
            flags={
                "prompt.max_tokens": self.prompt,
                "policy.max_new_tokens": self.completion,
                "policy.num_generations": self.group,
                "policy.prompts_per_step": self.prompts,
                "policy.gradient_checkpointing": self.checkpointing,
                **({"policy.micro_batch_tokens": self.pass_tokens} if self.pass_tokens else {}),
                "policy.reward_model": "none",
                "policy.eval_queries": 0,
                "warm_start.batch_size": self.group // 2,
            }
        )

    def precision(self) -> AbstractContextManager[Any]:
        """That of the device, had on a CPU."""
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.device == "cuda")


def _sizes(hidden: int, intermediate: int, layers: int, heads: int, key_value_heads: int) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "head_dim": hidden // heads,
        "vocab_size": _VOCABULARY,
    }


ERRORS = (
    "plan_error",
    "plan_activations_error",
    "plan_peak_error",
    "plan_rollout_error",
    "plan_warm_start_error",
    "plan_warm_start_peak_error",
)
CASES = (
    Case("llama_fp32", "llama", _sizes(256, 704, 6, 4, 2), "cpu", 320, 48, 8, 1),
    Case("qwen_fp32_checkpointing", "qwen2", _sizes(384, 1024, 8, 6, 2), "cpu", 512, 32, 4, 2, "on"),
    Case("llama_bf16_groups", "llama", _sizes(384, 1024, 4, 6, 3), "cuda", 256, 64, 4, 2, pass_tokens=1200),
    Case("llama_bf16_part", "llama", _sizes(384, 1024, 4, 6, 3), "cuda", 256, 64, 4, 2, pass_tokens=400),
    Case("qwen_bf16_checkpointing", "qwen2", _sizes(512, 1536, 6, 8, 2), "cuda", 512, 16, 8, 1, "on"),
)


class Measured(NamedTuple):
    """Bytes: what stays, what is kept for the backward pass, and the peaks of the phases on top of what stays."""

    lasting: float
    kept: float
    update: float
    rollout: float
    warm_start_kept: float
    warm_start: float


def measure(figures: Figures, cases: tuple[Case, ...] = CASES) -> None:
    """Adds the relative errors of the estimate: of each case, and the largest."""
    errors: dict[str, list[float]] = {name: [] for name in ERRORS}
    for case in cases:
        estimate = memory_of(shape_of_config(config_of(case)), case.settings(), case.device)
        measured = measured_bytes(case)
        for name, error in errors_of(estimate, measured).items():
            figures.add(f"{name}_{case.name}", error, "relative")
            errors[name].append(abs(error))
        progress(f"{case.name}: {measured}")
    for name, found in errors.items():
        figures.add(name, max(found), "relative")


def errors_of(estimate: Memory, measured: Measured) -> dict[str, float]:
    """Estimate over measurement, minus one: of all but working memory, of what is kept, of the peak, of rollouts.

    Of the warm start, which is no part of these: of what is kept, and of its peak.
    """
    lasting = sum(estimate.lasting.values())
    update, rollout, start = (estimate.phases[name] for name in ("update", "rollout", "warm start"))
    kept = update["activations"] + update["head"]
    phases = max(sum(update.values()), sum(rollout.values()))
    busiest = max(measured.update, measured.rollout)
    return {
        "plan_error": (lasting + kept) / (measured.lasting + measured.kept) - 1,
        "plan_activations_error": kept / measured.kept - 1,
        "plan_peak_error": (lasting + phases) / (measured.lasting + busiest) - 1,
        "plan_rollout_error": sum(rollout.values()) / measured.rollout - 1,
        "plan_warm_start_error": (start["activations"] + start["head"]) / measured.warm_start_kept - 1,
        "plan_warm_start_peak_error": (lasting + sum(start.values())) / (measured.lasting + measured.warm_start) - 1,
    }


def measured_bytes(case: Case) -> Measured:
    """What one step of a random model takes."""
    model, settings = model_of(case), case.settings()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], foreach=False)

    def forward() -> torch.Tensor:
        completion = list(range(10, 10 + case.completion))
        groups = [
            Group([0] * case.group, [n + 1] * case.prompt, [completion] * case.group) for n in range(case.prompts)
        ]
        largest = max(packed_passes(groups, case.pass_tokens), key=lambda one: one.tokens)
        given = [(group.prompt, group.completions) for group in largest.groups]
        with case.precision():
            scored = shared_prefix.score_groups(model, given, 0.7)
        return torch.stack([one.logps.sum() for group in scored for one in group]).sum()

    def update() -> None:
        forward().backward()

    def rollout() -> None:
        prompts = [[group + 1] * (case.prompt - group) for group in range(case.prompts)]  # of different lengths
        draw = shared_prefix.StreamSampling(settings.policy.temperature, case.prompts * case.group)
        with case.precision():
            shared_prefix.rollouts(model, prompts, case.group, draw=draw, max_new_tokens=case.completion, stop_ids=())

    kept = kept_bytes(model, forward)
    update()
    optimiser.step()
    state = sum(tensor.nbytes for of_one in optimiser.state.values() for tensor in of_one.values())
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    lasting = sum(p.nbytes for p in model.parameters()) + trained + state
    return Measured(lasting, kept, peak_bytes(update), peak_bytes(rollout), *warm_start_bytes(model, case))


def warm_start_bytes(model: Any, case: Case) -> tuple[float, float]:
    """What one step of the warm start keeps for the backward pass, and its peak."""
    completion = list(range(10, 10 + case.completion))
    # Of different lengths, so that there is padding and a mask.
    lengths = range(case.prompt, case.prompt - case.settings().warm_start.batch_size, -1)
    examples = [Example([length] * length, completion) for length in lengths]

    def forward() -> torch.Tensor:
        with case.precision():
            return negative_logp(model, examples, 0)

    return kept_bytes(model, forward), peak_bytes(lambda: forward().backward())


def kept_bytes(model: torch.nn.Module, forward: Callable[[], object]) -> float:
    """Bytes of the distinct storages that a forward pass keeps for the backward pass, parameters aside."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: weakref.WeakSet[_Kept] = weakref.WeakSet()  # what is given up within the forward pass leaves it

    def keep(tensor: torch.Tensor) -> _Kept:
        found = _Kept(tensor)
        kept.add(found)
        return found

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda found: found.tensor):
        graph = forward()
    storages = {one.tensor.untyped_storage().data_ptr(): one.tensor.untyped_storage().nbytes() for one in kept}
    del graph
    return sum(size for place, size in storages.items() if place not in own)


class _Kept:
    """A tensor as long as a graph keeps it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor.detach()  # what made it would keep this, and this what made it


def peak_bytes(work: Callable[[], object]) -> float:
    """The most that torch's allocator on the CPU has handed out at any time of some work."""
    from torch.profiler import ProfilerActivity, profile

    gc.collect()  # what is freed within counts as less
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler and profiler.profiler.kineto_results
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def config_of(case: Case) -> Any:
    """The configuration of a case's model."""
    return AutoConfig.for_model(case.family, **case.sizes, tie_word_embeddings=True)


def model_of(case: Case) -> Any:
    """The random model of a case, with an adapter, as it is trained."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config_of(case))
    model = add_adapter(
        base.to(torch.float32 if case.device == "cpu" else torch.bfloat16), case.settings().model, seed=0
    )
    model.train()
    if case.checkpointing == "on":
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model
