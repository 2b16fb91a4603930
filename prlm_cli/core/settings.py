"""Every setting: default, limits and help, once; and the merging of the layers into one configuration.

Layers, weakest first: defaults, preset, configuration file, `--set`, flags. An unknown key is refused, with a hint.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import SettingsError, did_you_mean

EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
Layout = Literal["completion", "turns", "document"]
RetrieverName = Literal["bm25", "bm25+", "bm25l", "atire", "robertson", "dense", "hybrid", "recency", "random", "none"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class ModelSettings(Section):
    """The base model and its adapters."""

    name: str = Field(EMBEDDED_MODEL, description="Base model: a local folder, a cached or hub model, or the default.")
    qlora: bool = Field(False, description="Load the base model in 4 bits (NF4) and train an adapter on it.")
    lora_r: int = Field(16, ge=1, description="Rank of the adapters.")
    lora_alpha: int = Field(32, ge=1, description="Scale of the adapters.")


class RetrievalSettings(Section):
    """Which records of the user's history a prompt gets."""

    retriever: RetrieverName = Field("bm25", description="How records are ranked.")
    k: int = Field(4, ge=0, description="How many records of the user's own history to retrieve.")
    undated: Literal["drop", "keep"] = Field("drop", description="Undated records when a filter of dates acts.")
    as_of: str | None = Field(None, description="Only records older than this date, whatever the query's.")
    since: str | None = Field(None, description="Only records of this date or newer.")
    where: list[str] = Field([], description="Only records whose meta has key=value; repeatable.")
    min_score: float | None = Field(None, description="Only records that score more than this.")
    dedupe: bool = Field(False, description="Of records with the same text, only the newest.")
    mmr: float | None = Field(None, ge=0, le=1, description="Diversity: 1 ranks by score alone, 0 by novelty alone.")
    rerank: bool = Field(False, description="Order the best candidates anew with a cross-encoder.")
    candidates: int = Field(50, ge=1, description="How many of the best --rerank and --mmr choose from.")
    corpus: Literal["own", "shared"] = Field("own", description="Own records, or fused with the shared corpus.")
    encoder: str = Field("all-MiniLM-L6-v2", description="Sentence encoder of dense retrieval.")
    cross_encoder: str = Field("cross-encoder/ms-marco-MiniLM-L6-v2", description="Model of --rerank.")

    @field_validator("as_of", "since")
    @classmethod
    def _is_a_date(cls, value: str | None) -> str | None:
        if value is not None:
            parse_period(value)
        return value


class PromptSettings(Section):
    """How a query and its records become a prompt."""

    task: str = Field("titles", description="What is asked for: names the parts of the prompt.")
    layout: Literal["auto", "completion", "turns", "document"] = Field(
        "auto", description="Form of the prompt; auto is what measured best for the model."
    )
    reasoning: Literal["auto", "on", "off"] = Field(
        "auto", description="Reason in <think> before answering; auto: on in training, then as the run was trained."
    )
    max_tokens: int = Field(384, ge=64, description="Longest prompt, in tokens; records are cut to fit.")


class GenerationSettings(Section):
    """Decoding."""

    batch_size: int = Field(32, ge=1, description="Prompts decoded together.")
    temperature: float = Field(0.0, ge=0, description="Sampling temperature; 0 decodes greedily.")
    max_new_tokens: int | None = Field(
        None, ge=1, description="Longest completion; default 96 with reasoning, else 24."
    )


class PairsSettings(Section):
    """The contrastive pairs of the reward model."""

    policy: str = Field("none", description="Who writes the answers: none (the untuned model), warm-start or a run.")
    swapped: bool = Field(True, description="Pairs whose rejected answer was written from another user's profile.")
    max_queries: int = Field(48, ge=2, description="How many training queries to write answers for.")


class RewardSettings(Section):
    """The personalisation reward model."""

    profile: bool = Field(True, description="Show the profile to the reward model; the paper's does not see it.")
    steps: int = Field(16, ge=1, description="Optimiser steps.")
    batch_size: int = Field(4, ge=1, description="Pairs a step.")
    learning_rate: float = Field(2e-4, gt=0, description="Peak learning rate.")
    max_tokens: int = Field(320, ge=64, description="Longest input: profile, query and answer.")
    heldout_share: float = Field(0.2, gt=0, lt=1, description="Share of users, by a hash of the id, kept for the test.")


class WarmStartSettings(Section):
    """The short supervised run before GRPO."""

    kind: Literal["auto", "none", "answers", "traces"] = Field(
        "auto", description="What it imitates: the users' answers, or answers after a trace of reasoning."
    )
    steps: int = Field(40, ge=1, description="Optimiser steps.")
    batch_size: int = Field(4, ge=1, description="Examples a step.")
    learning_rate: float = Field(5e-4, gt=0, description="Peak learning rate.")


class PolicySettings(Section):
    """GRPO."""

    reward_model: str | None = Field(None, description="Reward model run, or none; default: the newest one.")
    start_from: str | None = Field(None, description="Policy run whose adapter training goes on from.")
    steps: int = Field(24, ge=1, description="Optimiser steps of GRPO.")
    prompts_per_step: int = Field(2, ge=1, description="Prompts a step; completions a step are this times G.")
    num_generations: int = Field(8, ge=2, description="Rollouts per prompt, G.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate, cosine decay.")
    temperature: float = Field(0.7, gt=0, description="Sampling temperature of the rollouts.")
    max_new_tokens: int | None = Field(None, ge=1, description="Longest rollout; default as in generation.")
    loss_type: Literal["grpo", "dr_grpo", "dapo"] = Field("dapo", description="Normalisation of the loss.")
    scale_rewards: Literal["group", "batch", "none"] = Field("group", description="What advantages are divided by.")
    beta: float = Field(0.0, ge=0, description="Weight of the KL term against the start.")
    epsilon: float = Field(0.2, gt=0, description="Lower clip of the ratio.")
    epsilon_high: float = Field(0.28, gt=0, description="Upper clip of the ratio.")
    max_grad_norm: float = Field(0.2, gt=0, description="Gradient clipping.")
    micro_batch: int | None = Field(None, ge=1, description="Completions a forward pass; default: a whole group.")
    save_steps: int = Field(8, ge=1, description="Steps between checkpoints.")
    eval_steps: int = Field(8, ge=1, description="Steps between held-out evaluations.")
    eval_queries: int = Field(12, ge=0, description="Dev queries that choose the best adapter; 0 keeps the last.")
    rewards: dict[str, float] = Field(
        {"overlap": 1.0, "format": 0.1, "personalization": 0.1}, description="Weight of each reward."
    )


class EvalSettings(Section):
    """Evaluation."""

    metrics: list[str] = Field(
        ["rouge1", "rouge2", "rougeL", "exact_match", "format_rate", "extract_fail", "copy_rate"],
        description="Metrics to report.",
    )
    bootstrap: int = Field(2000, ge=100, description="Resamples of users behind each interval.")


class Config(Section):
    """One resolved configuration; stored with each run."""

    seed: int = Field(0, ge=0, description="Seed of everything random.")
    model: ModelSettings = ModelSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    prompt: PromptSettings = PromptSettings()
    generation: GenerationSettings = GenerationSettings()
    pairs: PairsSettings = PairsSettings()
    reward: RewardSettings = RewardSettings()
    warm_start: WarmStartSettings = WarmStartSettings()
    policy: PolicySettings = PolicySettings()
    eval: EvalSettings = EvalSettings()


# Constants of PrLM's released training code (method reference 1.1-1.4): LoRA r16/alpha 16, G 4, T 0.7, lr 1e-6, 2,500
# steps of one prompt, completions of 768 tokens, k 2, the library's old defaults beta 0.04 and epsilon 0.2, a reward
# model blind to the profile with 3 epochs at 5e-5 on pairs of the untuned model.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "model": {"lora_r": 16, "lora_alpha": 16},
        "retrieval": {"k": 2},
        "prompt": {"layout": "document", "max_tokens": 512},
        "generation": {"max_new_tokens": 768},
        "pairs": {"policy": "none", "swapped": False, "max_queries": 5000},
        "reward": {"profile": False, "batch_size": 64, "learning_rate": 5e-5, "steps": 240},
        "warm_start": {"kind": "none"},
        "policy": {
            "steps": 2500,
            "prompts_per_step": 1,
            "num_generations": 4,
            "learning_rate": 1e-6,
            "temperature": 0.7,
            "max_new_tokens": 768,
            "loss_type": "grpo",
            "beta": 0.04,
            "epsilon": 0.2,
            "epsilon_high": 0.2,
            "max_grad_norm": 1.0,
        },
    },
}


def resolve(
    *,
    base: Config | None = None,
    preset: str = "default",
    config_file: Path | None = None,
    assignments: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration that the layers give.

    Args:
        base: What lies under all other layers, instead of the defaults.
        preset: A name in `PRESETS`.
        config_file: TOML with a table a section.
        assignments: "section.key=value", value in TOML syntax; a bare word is a string.
        flags: "section.key" -> value; None means not given.

    Raises:
        SettingsError: If a key is unknown or a value is not allowed; names where it came from.
    """
    if preset not in PRESETS:
        raise SettingsError(f"no preset '{preset}'", hint=did_you_mean(preset, PRESETS))
    values = (base or Config()).model_dump(exclude_none=True)
    origins: dict[str, str] = {}
    _overlay(values, PRESETS[preset])
    if config_file:
        text, table = _read_toml(config_file)
        _overlay(values, table)
        origins |= {key: f"{config_file}:{_line_of(text, key)}: " for key in _flatten(table)}
    for assignment in assignments:
        key, value = _parse_assignment(assignment)
        _overlay(values, _nest(key, value))
        origins[key] = "--set "
    for key, value in (flags or {}).items():
        if value is not None:
            _overlay(values, _nest(key, value))
            origins[key] = ""
    return _validate(values, origins)


def to_toml(config: Config) -> str:
    """The whole configuration as TOML that `resolve` reads back to the same; keys that are not set are left out."""
    import tomli_w

    return tomli_w.dumps(config.model_dump(exclude_none=True))


def describe(key: str) -> Any:
    """The pydantic field behind "section.key" or "key".

    Raises:
        KeyError: If there is none.
    """
    *sections, name = key.split(".")
    model: Any = Config
    for section in sections:
        model = model.model_fields[section].annotation
    return model.model_fields[name]


def _validate(values: dict[str, Any], origins: dict[str, str]) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        origin = origins.get(
            key,
            next((o for k, o in origins.items() if f"{key}.".startswith(f"{k}.") or f"{k}.".startswith(f"{key}.")), ""),
        )
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"{origin}unknown key {key}", hint=did_you_mean(key, _known_keys())) from error
        raise SettingsError(f"{origin}{key}: {first['msg'][0].lower()}{first['msg'][1:]}", hint="see --help") from error


def _known_keys() -> list[str]:
    known = []
    for name, field in Config.model_fields.items():
        section = field.annotation
        is_section = isinstance(section, type) and issubclass(section, Section)
        known += [name, *(f"{name}.{key}" for key in section.model_fields)] if is_section else [name]  # type: ignore[union-attr]
    return known


def _read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file", hint="--config names a TOML file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}", hint="a configuration file is TOML") from error


def _line_of(text: str, key: str) -> int:
    """The line that gives a key, under its table's header or dotted; 1 where it is written some other way."""
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = f"{header[1].strip()}."
        elif (name := line.partition("=")[0].strip()) and f"{table}{name}" == key:
            return number
    return 1


def _parse_assignment(assignment: str) -> tuple[str, Any]:
    key, equals, value = assignment.partition("=")
    if not equals:
        raise SettingsError(f"--set {assignment}: no '='", hint="write --set section.key=value")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _nest(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for name, value in table.items():
        keys += _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return keys


def _overlay(values: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping):
            nested = values.setdefault(key, {})
            if not isinstance(nested, dict):
                nested = values[key] = {}
            _overlay(nested, value)
        else:
            values[key] = value
