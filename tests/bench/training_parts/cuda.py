"""On a GPU: random models in the shapes of 0.5B to 7B, in 4 bits under bf16, one group of a long prompt.

Speed and memory do not depend on what the weights are. Consumer cards are emulated by a limit on what this process may
have of the card.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from prlm_cli.core.configuration import resolve
from prlm_cli.core.settings import ModelSettings
from prlm_cli.models.adapters import add_adapter
from prlm_cli.models.loading import keep_gradients
from prlm_cli.models.shapes import shape_of_config
from prlm_cli.pipeline.memory import memory_of
from tests.bench.figures import Figures, interleaved, progress, ratio
from tests.bench.training_parts.scoring import SIDES, Side
from tests.bench.training_parts.sides import Size, drawn_by_stock, drawn_by_us, prepared, random_group

SIZE = Size(1024, 256, 8)
CARDS = (8, 12, 16, 24)  # GB
_COMMON = {"vocab_size": 151936, "max_position_embeddings": 4096}


class Case(NamedTuple):
    """A model: its name, and its sizes, which are those of Qwen2.5."""

    name: str
    sizes: dict[str, Any]

    @property
    def config(self) -> Any:
        """Of transformers."""
        return AutoConfig.for_model("qwen2", **_COMMON | self.sizes)


def _sizes(hidden: int, intermediate: int, layers: int, heads: int, cached: int, *, tied: bool) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": cached,
        "tie_word_embeddings": tied,
    }


CASES = (
    Case("0.5b", _sizes(896, 4864, 24, 14, 2, tied=True)),
    Case("1.5b", _sizes(1536, 8960, 28, 12, 2, tied=True)),
    Case("3b", _sizes(2048, 11008, 36, 16, 2, tied=True)),
    Case("7b", _sizes(3584, 18944, 28, 28, 4, tied=False)),
)


def measure_cuda(figures: Figures, rounds: int, cases: Sequence[Case] = CASES) -> None:
    """Adds the `cuda_` figures; where there is no GPU, none."""
    if not torch.cuda.is_available():
        progress("no GPU: no cuda_ figures")
        return
    device = torch.device("cuda")
    errors = []
    for case in cases:
        model = random_policy(case, device)
        peaks = measure_case(figures, rounds, case, model, SIZE)
        errors.append(abs(figures[f"cuda_plan_error_{case.name}"]))
        for card in CARDS:
            for side, work in _works(model, SIZE).items():
                figures.add(f"cuda_fits_{case.name}_{card}gb_{side}", _fits(work, card), "1 is yes")
        progress(f"{case.name}: peaks {peaks}")
        del model
        gc.collect()
        torch.cuda.empty_cache()
    figures.add("cuda_plan_error", max(errors), "relative")


def measure_case(figures: Figures, rounds: int, case: Case, model: Any, size: Size) -> dict[str, float]:
    """Adds the figures of one model; the peaks, in bytes, of what is not there all the time."""
    works, device = _works(model, size), model.device
    for work in works.values():
        work()  # kernels are compiled
    peaks = {side: _peak(work, device) for side, work in works.items()}
    taken = interleaved(rounds, {side: partial(_seconds, work, device) for side, work in works.items()})
    speedup = ratio(taken["stock"], taken["ours"])
    figures.add(f"cuda_forward_backward_speedup_{case.name}", speedup, "x")
    figures.add(f"cuda_limit_share_{case.name}", speedup / size.limit, "share")
    for side, peak in peaks.items():
        figures.add(f"cuda_peak_gib_{side}_{case.name}", peak / 2**30, "GiB")
    figures.add(f"cuda_plan_error_{case.name}", _planned(case, size) / peaks["ours"] - 1, "relative")
    prompts = [random_group(size, model.config.vocab_size).prompt]
    draws = {"ours": drawn_by_us, "stock": drawn_by_stock}
    drawn = {side: partial(draw, model, prompts, size, []) for side, draw in draws.items()}
    taken = interleaved(rounds, {side: partial(_seconds, work, device) for side, work in drawn.items()})
    figures.add(f"cuda_rollout_speedup_{case.name}", ratio(taken["stock"], taken["ours"]), "x")
    return peaks


def random_policy(case: Case, device: torch.device) -> Any:
    """A model of that shape in 4 bits, with an adapter; made a layer at a time, so that it takes no more than it has.

    Its layers are checkpointed, as in a training on a GPU.
    """
    torch.manual_seed(0)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(case.config, dtype=torch.bfloat16)
    head = base.get_output_embeddings()
    for module in list(base.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear) and child is not head:
                setattr(module, name, _random_nf4(child, device))
    for module in base.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta:
                value = torch.ones(parameter.shape, dtype=parameter.dtype, device=device)
                if parameter.dim() > 1:  # the embedding and the head; a norm has ones
                    value.normal_(std=0.02)
                setattr(module, name, torch.nn.Parameter(value, requires_grad=False))
    base.tie_weights()
    base.model.rotary_emb = type(base.model.rotary_emb)(base.config).to(device)
    base.is_loaded_in_4bit = True  # what PEFT looks at
    keep_gradients(base)
    model = prepared(add_adapter(base.requires_grad_(False), ModelSettings(), seed=0).to(device))
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    return model


def _random_nf4(layer: torch.nn.Linear, device: torch.device) -> Any:
    from bitsandbytes.nn import Linear4bit, Params4bit

    has_bias = layer.bias is not None
    made = Linear4bit(layer.in_features, layer.out_features, has_bias, torch.bfloat16, quant_type="nf4", device="meta")
    weight = torch.empty(layer.weight.shape, dtype=torch.bfloat16, device="cpu" if device.type == "cpu" else device)
    made.weight = Params4bit(weight.normal_(std=0.02), requires_grad=False, quant_type="nf4", module=made)
    if has_bias:
        made.bias = torch.nn.Parameter(torch.zeros(layer.out_features, dtype=torch.bfloat16, device=device))
    return made.to(device)


def _works(model: Any, size: Size) -> dict[str, Callable[[], None]]:
    group = random_group(size, model.config.vocab_size)

    def work(side: Side) -> None:
        model.zero_grad()
        side(model, [group], partial(torch.autocast, model.device.type, torch.bfloat16)).sum().backward()

    return {name: partial(work, side) for name, side in SIDES.items()}


def _planned(case: Case, size: Size) -> float:
    """What `plan` says of the weights, adapters, gradients and the update, the card's own overhead aside."""
    config = resolve(
        flags={
            "model.qlora": True,
            "prompt.max_tokens": size.prompt,
            "policy.max_new_tokens": size.completion,
            "policy.num_generations": size.group,
            "policy.prompts_per_step": 1,
            "policy.reward_model": "none",
        }
    )
    memory = memory_of(shape_of_config(case.config), config, "cuda")
    return sum(memory.lasting.values()) - memory.lasting["optimiser"] + sum(memory.phases["update"].values())


def _peak(work: Callable[[], None], device: torch.device) -> float:
    if device.type != "cuda":
        from tests.bench.training_parts.plan import peak_bytes

        return peak_bytes(work)
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated()


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _fits(work: Callable[[], None], card: int) -> float:
    """1 if the work fits a card of that many GB, else 0."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, card * 1e9 / total))
    try:
        work()
    except torch.cuda.OutOfMemoryError:
        return 0.0
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return 1.0
