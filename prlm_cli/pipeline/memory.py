"""How much memory a policy training takes, by part: arithmetic over the model's shape, nothing is loaded.

The step it describes is ours (`training.bounded_trainer`): whole groups packed so that a prompt is computed once, in
passes of so many tokens, with the logits of a tile of completion tokens at a time. Per token and layer, training keeps
for the backward pass (counted on the saved tensors of Llama and Qwen2):

1. the inputs of the norms, in fp32;
2. queries, keys and values repeated to all heads, and the attention's result; one fp32 number a head; packed, also the
   keys and values as they were;
3. of the feed-forward part its two products and the activation between them;
4. the inputs of the adapted layers, and what the adapters' first matrix makes of them. Under mixed precision each layer
   keeps a 16-bit copy of its own input, in fp32 layers share it;
5. the mask as numbers: packed, once, for what follows the prompts; else once a layer.

Gradient checkpointing keeps a layer's input instead, and all of this for one layer at a time.

Of several processes, each takes its share of the prompts of a step. Where they share the base (`models.sharding`), each
keeps its part of every layer's weights; all of them in each phase but the update.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from msgspec import structs

from prlm_cli.core.settings import Config, PolicySettings
from prlm_cli.models.shapes import Shape, parameters_of
from prlm_cli.pipeline.policies import longest_completion
from prlm_cli.tasks import TASKS

DeviceKind = Literal["cpu", "cuda"]

GIB = 2**30
_FP32 = 4
_OPTIMISER = 8  # bytes a parameter: AdamW's two fp32 moments
# In 8 bits, which a 4-bit model's is on a GPU: with a scale for 256 of each (Dettmers et al., arXiv 2110.02861).
_OPTIMISER_8_BIT = 2 * (1 + 4 / 256)
# NF4: half a byte, an 8-bit scale for 64 weights, a 32-bit scale for 256 of those (Dettmers et al., arXiv 2305.14314,
# section 3).
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
# Where logits are kept whole, as large as their fp32 log-probabilities: the logits, and two gradients of them.
_LOGIT_COPIES = 3
# Of a tile of logits, in fp32: scaled, as log-probabilities, and the gradient of these.
_TILE_COPIES = 3
_TILE = 2**23  # logits: `training.token_logps.TILE`, which is not imported because it needs torch
# In decoding: the last logits, scaled, as probabilities, and the cumulated ones that a token is drawn from.
_DECODING_COPIES = 4
# A layer's gradients while it is passed back, as a share of what it keeps.
_BACKWARD_SHARE = 0.5
# Of layers in parts, how many are whole at one time in an update: one at work, and two on their way from the processes.
_WHOLE_LAYERS = 3
# What CUDA itself and its kernels take, and what its allocator cannot use: allowances, not measured here.
_CUDA_CONTEXT = 0.8 * GIB
_CUDA_FRAGMENTATION = 0.1


@dataclass(frozen=True)
class Memory:
    """Bytes by part.

    `lasting` is there all the time; of the `phases`, one at a time. `overhead` is the device's own.
    """

    lasting: dict[str, float]
    phases: dict[str, dict[str, float]]
    overhead: float

    @property
    def busiest(self) -> str:
        """The phase that takes the most."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def peak(self) -> float:
        """The most at any time, overhead included."""
        return sum(self.lasting.values()) + sum(self.phases[self.busiest].values()) + self.overhead


def memory_of(shape: Shape, config: Config, device: DeviceKind, processes: int = 1) -> Memory:
    """The memory of `train-policy` with these settings, in the process that takes the most: the main one.

    Args:
        shape: Of the base model.
        config: The resolved settings; prompts and completions are reckoned at their full length.
        device: With `auto`, weights are fp32 on a cpu and bf16 on cuda, as `load_base` has them.
        processes: How many there are, each with a device of its own.

    Raises:
        MissingError: If the reward model is one of its own whose configuration is nowhere to be had.
    """
    size = bytes_of_number(config, device)
    lasting = _lasting(shape, config, device)
    own = _of_one_process(config, processes)
    phases = {"rollout": _rollout(shape, own, size), "update": _update(shape, own, device)}
    batch = config.generation.batch_size
    if config.policy.eval_queries:
        phases["held-out answers"] = _answers(shape, min(config.policy.eval_queries, batch), config, size)
    if config.warm_start.kind != "none" and not config.policy.start_from:
        phases["warm start"] = _warm_start(shape, config, device)
        if config.warm_start.kind == "star":
            phases["star samples"] = _answers(shape, batch, config, size)
    if config.policy.shard_base:
        layers = size * (shape.linear_parameters + shape.linear_biases)
        lasting["weights"] -= layers - layers / processes
        for name, parts in phases.items():
            whole = _WHOLE_LAYERS * layers / shape.layers if name == "update" else layers - layers / processes
            parts["whole layers"] = whole
    tensors = Memory(lasting, phases, 0.0).peak
    return Memory(lasting, phases, _CUDA_CONTEXT + _CUDA_FRAGMENTATION * tensors if device == "cuda" else 0.0)


def _of_one_process(config: Config, processes: int) -> Config:
    """The configuration of a training of the prompts that each process has in a step."""
    prompts = math.ceil(config.policy.prompts_per_step / processes)
    return structs.replace(config, policy=structs.replace(config.policy, prompts_per_step=prompts))


def precision_of(config: Config, device: DeviceKind) -> Literal["fp32", "bf16"]:
    """The precision that `load_base` gives a base model; 16 bits of either kind are the same here."""
    return "fp32" if device == "cpu" and config.model.precision == "auto" else "bf16"


def bytes_of_number(config: Config, device: DeviceKind) -> int:
    """The size of a weight or an activation."""
    return _FP32 if precision_of(config, device) == "fp32" else 2


def completion_tokens(config: Config) -> int:
    """The longest rollout, in tokens."""
    return config.policy.max_new_tokens or longest_completion(
        TASKS[config.prompt.task], reasons=config.prompt.reasoning != "off"
    )


def largest_pass(shape: Shape, config: Config) -> list[int]:
    """The tokens of each row of the largest forward pass of an update, with completions at their full length."""
    prompt, completion = config.prompt.max_tokens, completion_tokens(config)
    prompts, group, most = (
        config.policy.prompts_per_step,
        config.policy.num_generations,
        config.policy.micro_batch_tokens,
    )
    if not shape.packs:
        row = prompt + completion
        return [row] * (group if most is None else min(prompts * group, max(1, most // row)))
    of_one = completions_of_one_prompt(config)
    row = prompt - 1 + of_one * completion
    return [row] * (1 if most is None or of_one < group else min(prompts, max(1, most // row)))


def completions_of_one_prompt(config: Config) -> int:
    """How many completions of a prompt are packed together, at full length: a group's, or those that fit a pass."""
    group, most = config.policy.num_generations, config.policy.micro_batch_tokens
    if most is None:
        return group
    room = max(1, (most - (config.prompt.max_tokens - 1)) // completion_tokens(config))
    return group if room >= group else math.ceil(group / math.ceil(group / room))


def tokens_of_step(shape: Shape, config: Config) -> int:
    """Tokens of all forward passes of an update, with completions at their full length."""
    prompt, completion = config.prompt.max_tokens, completion_tokens(config)
    prompts, group = config.policy.prompts_per_step, config.policy.num_generations
    if not shape.packs:
        return prompts * group * (prompt + completion)
    parts = math.ceil(group / completions_of_one_prompt(config))
    return prompts * (parts * (prompt - 1) + group * completion)


def checkpoints(policy: PolicySettings, device: DeviceKind) -> bool:
    """Whether gradient checkpointing is on."""
    return device == "cuda" if policy.gradient_checkpointing == "auto" else policy.gradient_checkpointing == "on"


def adapter_parameters(shape: Shape, config: Config) -> int:
    """Of one LoRA adapter on all linear layers: r times inputs plus outputs (Hu et al., arXiv 2106.09685, 4.1)."""
    return config.model.lora_r * shape.adapted_widths


def _lasting(shape: Shape, config: Config, device: DeviceKind) -> dict[str, float]:
    size = bytes_of_number(config, device)
    of_linear = _NF4 if config.model.qlora else size
    adapter = adapter_parameters(shape, config)
    moments = _OPTIMISER_8_BIT if config.model.qlora and device == "cuda" else _OPTIMISER
    frozen_copies = 1 if config.policy.beta else 0  # what the KL term compares with
    return {
        "weights": shape.linear_parameters * of_linear + (shape.linear_biases + shape.other_parameters) * size,
        "adapters": _FP32 * adapter * (1 + frozen_copies),
        "gradients": _FP32 * adapter,
        "optimiser": moments * adapter,
        "reward model": _reward_model(shape, config),
    }


def _reward_model(shape: Shape, config: Config) -> float:
    """A second adapter with a head of one score, or a model of its own in fp32."""
    policy = config.policy
    if policy.reward_model == "none" or not policy.rewards.get("personalization"):
        return 0.0
    if config.reward.model in (None, config.model.name):
        return _FP32 * (adapter_parameters(shape, config) + shape.hidden)
    assert config.reward.model
    return _FP32 * parameters_of(config.reward.model)


def _update(shape: Shape, config: Config, device: DeviceKind) -> dict[str, float]:
    """The largest forward and backward pass of GRPO."""
    lengths = largest_pass(shape, config)
    completions = len(lengths) * (completions_of_one_prompt(config) if shape.packs else 1)
    scored = completions * completion_tokens(config)
    vectors = 2 if config.policy.entropy_coef else 1  # how log-probabilities, and entropies, change with the states
    kept, at_work = activations(shape, config, device, lengths, shares_prompt=shape.packs)
    head, logits = _head(shape, bytes_of_number(config, device), scored)
    work = max(logits, at_work) + dequantised(shape, config, device)
    return {"activations": kept, "head": vectors * head, "working memory": work}


def _warm_start(shape: Shape, config: Config, device: DeviceKind) -> dict[str, float]:
    """One forward and backward pass of supervised training, a row an example."""
    rows = config.warm_start.micro_batch or config.warm_start.batch_size
    scored = rows * completion_tokens(config)
    kept, at_work = activations(shape, config, device, [config.prompt.max_tokens + completion_tokens(config)] * rows)
    head, logits = _head(shape, bytes_of_number(config, device), scored)
    if shape.transforms_logits:
        head = _FP32 * scored * shape.vocabulary
        logits = _LOGIT_COPIES * head
    # What is made of logits is gone when the first layer is passed back.
    work = max(logits, at_work) + dequantised(shape, config, device)
    return {"activations": kept, "head": head, "working memory": work}


def _head(shape: Shape, size: int, scored: int) -> tuple[float, float]:
    """What the tiled head keeps of so many tokens, a vector each, and what it works with: one tile of logits."""
    tile = _TILE_COPIES * _FP32 * min(_TILE, scored * shape.vocabulary)
    return size * scored * shape.hidden, tile


def _rollout(shape: Shape, config: Config, size: int) -> dict[str, float]:
    """Decoding the completions of a step; packed, the prompt of a group is in the cache once."""
    rows = config.policy.prompts_per_step * config.policy.num_generations
    prompts = config.policy.prompts_per_step if shape.packs else rows
    parts = _decoding(shape, rows, prompts, config, size)
    # While the prompts are read, there is nothing else in the cache, and nothing is drawn.
    cached = shape.layers * shape.cached * size * prompts * config.prompt.max_tokens
    reading = cached + _reading(shape, prompts, config, size) - parts["cache"] - parts["logits"]
    casts = size * adapter_parameters(shape, config) if size < _FP32 else 0.0  # adapters in the precision at work
    return {**parts, "working memory": max(parts["working memory"], reading) + casts}


def _answers(shape: Shape, rows: int, config: Config, size: int) -> dict[str, float]:
    """Decoding a batch of answers, each row's prompt computed on its own."""
    parts = _decoding(shape, rows, rows, config, size)
    return {**parts, "working memory": max(parts["working memory"], _reading(shape, rows, config, size))}


def _reading(shape: Shape, prompts: int, config: Config, size: int) -> float:
    """Computing prompts without a backward pass: their masks, and at most the second product of a feed-forward part.

    Beside that are the first, activated, what the adapter adds, that scaled, and the sum.
    """
    length = config.prompt.max_tokens
    return prompts * length * (size * (5 * shape.intermediate + 2 * shape.hidden) + (1 + size) * length)


def _decoding(shape: Shape, rows: int, prompts: int, config: Config, size: int) -> dict[str, float]:
    """Where rows share prompts, a layer sees several queries a prompt, for which keys and values are repeated."""
    tokens = prompts * config.prompt.max_tokens + rows * completion_tokens(config)
    one_layer = shape.cached * size * tokens
    repeated = 2 * shape.attention * size * tokens if prompts < rows and 2 * shape.attention > shape.cached else 0
    return {
        "cache": shape.layers * one_layer,
        "logits": _DECODING_COPIES * _FP32 * rows * shape.vocabulary,
        "working memory": max(one_layer / 2, repeated),  # the keys, or the values, of a layer grow into new ones
    }


def activations(
    shape: Shape, config: Config, device: DeviceKind, lengths: list[int], *, shares_prompt: bool = False
) -> tuple[float, float]:
    """What is kept for the backward pass of such rows, and what comes on top of it while a layer is passed back.

    All are one batch. Rows that share their prompt are packed trees.
    """
    size = bytes_of_number(config, device)
    tokens, squares = sum(lengths), sum(length**2 for length in lengths)
    a_token, a_layer = _kept_by_layer(shape, config, size)
    ends = _FP32 * tokens * shape.hidden  # into the last norm
    if shares_prompt:
        a_token += size * shape.cached
        layer = tokens * a_token + a_layer
        masks = size * sum(length * (length - config.prompt.max_tokens + 1) for length in lengths)
    else:
        layer = tokens * a_token + squares * size + a_layer
        masks = squares  # a byte for who may see whom
    if checkpoints(config.policy, device):
        kept = shape.layers * tokens * shape.hidden * size
        return kept + ends + masks, (1 + _BACKWARD_SHARE) * layer
    return shape.layers * layer + ends + masks, _BACKWARD_SHARE * layer


def _kept_by_layer(shape: Shape, config: Config, size: int) -> tuple[float, float]:
    """Bytes a token in one layer (1 to 4 of the module's list), and bytes whatever the tokens."""
    inputs = shape.adapted_inputs / shape.layers if size < _FP32 else 2 * shape.hidden + shape.intermediate
    ranks = config.model.lora_r * shape.adapted_layers / shape.layers
    a_token = (
        _FP32 * (shape.norms + shape.heads)
        + size * (4 * shape.attention + 3 * shape.intermediate)
        + size * (inputs + ranks)
    )
    casts = size * adapter_parameters(shape, config) / shape.layers if size < _FP32 else 0.0
    return a_token, casts


def dequantised(shape: Shape, config: Config, device: DeviceKind) -> float:
    """The largest 4-bit layer in the precision that it is multiplied in."""
    return shape.widest_layer * bytes_of_number(config, device) if config.model.qlora else 0.0
