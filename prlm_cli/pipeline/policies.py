"""A policy ready to use: model, tokenizer and prompt builder, of a run or untrained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from msgspec import structs

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import SettingsError
from prlm_cli.core.prompts import Codec, PromptBuilder, Task
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import EMBEDDED_MODEL, Config, Layout, PromptSettings
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.tasks import TASKS

if TYPE_CHECKING:
    from prlm_cli.engines import Engine
    from prlm_cli.models.tokenization import TokenizerCodec

UNTRAINED = "untrained"
_REASONING_TOKENS = 96
_ANSWER_TOKENS = 24
_LONG_ANSWER_TOKENS = 512  # LongLaMP's answers have 93 to 305 words in the mean
_MEASURED_LAYOUTS: dict[str, Layout] = {EMBEDDED_MODEL: "completion"}


class Beginning(NamedTuple):
    """What a completion is made to begin with: its text, and its ids."""

    text: str
    ids: list[int]


class Writer(Protocol):
    """Who writes completions: a policy in this process, or a model on a server."""

    @property
    def name(self) -> str:
        """What generations call it."""
        ...

    @property
    def builder(self) -> PromptBuilder:
        """Builds its prompts and reads its completions."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Longest completion where no setting says so."""
        ...

    def engine(self, config: Config, *, temperature: float | None = None) -> Engine:
        """The engine that decodes as the generation settings say."""
        ...


@dataclass(frozen=True)
class Policy:
    """A policy: `name` is that of its run, or "untrained"; `folders` hold its weights, if it is not being trained."""

    name: str
    model: Any
    tokenizer: Any
    builder: PromptBuilder
    codec: TokenizerCodec
    folders: tuple[Path, ...] = ()

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end a completion: the end tokens, and a line break where the first line is the answer."""
        ends = self.model.generation_config.eos_token_id
        ends = [ends] if isinstance(ends, int) else list(ends or [])
        own = list(dict.fromkeys([self.tokenizer.eos_token_id, self.codec.end_of_turn, *ends]))
        return [*own, *self.codec.line_ends] if self.builder.ends_at_line_break else own

    @property
    def max_new_tokens(self) -> int:
        """Longest completion where no setting says so."""
        return longest_completion(self.builder.task, reasons=self.builder.reasoning)

    def beginning(self, reasoning: str) -> Beginning:
        """The beginning of a completion whose reasoning is given, for a policy that reasons."""
        text = self.builder.thought(reasoning)
        return Beginning(text, self._encoded(text)[:-1])

    def completion_ids(self, answer: str, reasoning: str = "") -> list[int]:
        """The completion that a perfect policy would write, with the token that ends it."""
        return self._encoded(self.builder.completion(answer, reasoning))

    def with_prompt(self, prompt: PromptSettings) -> Policy:
        """The same model asked in another form; layout and reasoning must be resolved."""
        return replace(self, builder=builder_for(prompt, self.codec))

    def fingerprint(self) -> str:
        """Identifies what it answers by, prompts aside: weights, tokenizer, and their precision on this device."""
        from prlm_cli.models.loading import fingerprint_of, is_quantised

        assert self.folders, "weights that change have no fingerprint"
        precision = (self.model.dtype, self.model.device.type, is_quantised(self.model))
        facts = (*map(fingerprint_of, self.folders), *precision)
        return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()

    def engine(self, config: Config, *, temperature: float | None = None) -> Engine:
        """The engine that decodes this policy as the generation settings say."""
        from prlm_cli.engines.hf import HfEngine

        return HfEngine(
            self.model,
            self.tokenizer,
            stop_ids=self.stop_ids,
            max_new_tokens=config.generation.max_new_tokens or self.max_new_tokens,
            batch_size=config.generation.batch_size,
            temperature=config.generation.temperature if temperature is None else temperature,
            seed=config.seed,
        )

    def _encoded(self, completion: str) -> list[int]:
        builder = self.builder
        begun = self.codec.replies[builder.reasoning] if builder.is_chat else ""
        return self.codec.encode_completion(completion, after=begun + builder.opening, in_chat=builder.is_chat)


class ServedModel:
    """A model on a server that speaks OpenAI's chat completions; a `Writer`.

    Raises:
        SettingsError: If the settings do not say where it is and what it is called.
        MissingError: If connections are refused by --offline.
    """

    def __init__(self, config: Config) -> None:
        from prlm_cli.engines.openai import check
        from prlm_cli.engines.pieces import PieceCodec

        check(config.server)
        self.name = f"openai:{config.server.model}"
        self.builder = builder_for(config.prompt, PieceCodec())

    @property
    def max_new_tokens(self) -> int:
        """Longest completion where no setting says so."""
        return longest_completion(self.builder.task, reasons=self.builder.reasoning)

    def engine(self, config: Config, *, temperature: float | None = None) -> Engine:
        """The engine that asks the server as the generation settings say."""
        from prlm_cli.engines.openai import OpenAiEngine

        return OpenAiEngine(
            config.server,
            max_new_tokens=config.generation.max_new_tokens or self.max_new_tokens,
            temperature=config.generation.temperature if temperature is None else temperature,
            seed=config.seed,
        )


@dataclass(frozen=True)
class ChosenPolicy:
    """What `generate` uses: a run, an adapter's folder, or neither; and the configuration that follows from it."""

    config: Config
    run: Run | None = None
    adapter: Path | None = None
    allow_prompt_drift: bool = False

    def writer(self, reporter: Reporter) -> Writer:
        """What `generation.engine` says, ready to use: the policy, or a model on a server.

        Raises:
            SettingsError: If the policy's prompts would look different from those it was trained with, or a trained
                policy is to be asked of a server.
        """
        if self.config.generation.engine == "hf":
            return self.load(reporter)
        if self.run or self.adapter:
            hint = "--policy none asks the server's own model"
            raise SettingsError("a server does not have the weights of a policy trained here", hint=hint)
        return ServedModel(self.config)

    def load(self, reporter: Reporter) -> Policy:
        """The policy, ready to use.

        Raises:
            SettingsError: If its prompts would look different from those it was trained with.
        """
        policy = load_policy(self.config, run=self.run, adapter=self.adapter, reporter=reporter)
        if self.run and not self.allow_prompt_drift and self.run.metrics["prompt_hash"] != policy.builder.hash:
            raise SettingsError(
                f"run '{self.run.name}' was trained with other prompts",
                hint="--allow-prompt-drift uses it all the same",
            )
        return policy


def choose_policy(
    workspace: Workspace,
    name: str | None,
    resolve_over: Callable[[Config | None], Config],
    reporter: Reporter,
    *,
    allow_prompt_drift: bool = False,
) -> ChosenPolicy:
    """The policy that a name stands for; its configuration is that of the run, with the caller's layers over it.

    Args:
        workspace: Where runs lie.
        name: A run, an adapter's folder or "none"; without a name the newest finished policy, else the base model.
        resolve_over: Lays the caller's settings over a run's.
        reporter: Told when there is no policy yet.
        allow_prompt_drift: Use a policy although its prompts would look different from those it was trained with.

    Raises:
        DataError: If the named run does not exist or is not a finished policy.
    """
    if name and name != "none" and (Path(name) / "adapter_config.json").is_file():
        return ChosenPolicy(_resolved(resolve_over(None)), adapter=Path(name))
    if name is None and resolve_over(None).generation.engine == "openai":
        name = "none"
    if name is None:
        run = workspace.latest("policy")
        if run is None:
            reporter.note("no policy yet: using the base model")
    else:
        run = None if name == "none" else workspace.finished_run(name, "policy")
    if run is None:
        return ChosenPolicy(_resolved(resolve_over(None)))
    config = _resolved(resolve_over(resolve(config_file=run.folder / "config.toml")))
    return ChosenPolicy(config, run=run, allow_prompt_drift=allow_prompt_drift)


def _resolved(config: Config) -> Config:
    """Without a run, `auto` is the model's measured layout, a server's is a document, and a direct answer."""
    measured: Layout = measured_layout(config.model.name) or "completion"
    auto = "document" if config.generation.engine == "openai" else measured
    layout = auto if config.prompt.layout == "auto" else config.prompt.layout
    reasoning = "off" if config.prompt.reasoning == "auto" else config.prompt.reasoning
    return with_prompt(config, layout=layout, reasoning=reasoning)


def load_policy(
    config: Config,
    *,
    run: Run | None = None,
    adapter: Path | None = None,
    trainable: bool = False,
    sharded: bool = False,
    reporter: Reporter,
) -> Policy:
    """The base model, with the adapter of a run (or of a folder) where given, or with a new one where it is to train.

    Args:
        config: Model and prompt settings; the layout must be resolved.
        run: The policy run to load.
        adapter: An adapter's folder, instead of a run.
        trainable: Whether the adapter is to be trained (on).
        sharded: Whether each of several processes keeps a part of the base.
        reporter: Told about downloads.

    Raises:
        MissingError: If the model cannot be had.
        StorageError: If the adapter is missing or does not fit.
    """
    from prlm_cli.models import adapters
    from prlm_cli.models.loading import load_base, load_tokenizer, resolve_model
    from prlm_cli.models.tokenization import TokenizerCodec

    folder = resolve_model(config.model.name, reporter)
    tokenizer = load_tokenizer(folder)
    codec = TokenizerCodec(tokenizer)
    model = load_base(folder, config.model, on_cpu=sharded)
    weights = adapter or (run.adapter if run else None)
    if weights:
        model = adapters.load_adapter(model, weights, trainable=trainable)
        if not trainable:
            adapters.answer_in_precision_of_base(model)
    elif trainable:
        model = adapters.add_adapter(model, config.model, seed=config.seed)
    if sharded:
        from prlm_cli.models.sharding import shard

        shard(model)
    name = run.name if run else (str(adapter) if adapter else UNTRAINED)
    folders = () if trainable else (folder, *([weights] if weights else []))
    return Policy(name, model, tokenizer, builder_for(config.prompt, codec), codec, folders)


def check_prompts(run: Run | None, builder: PromptBuilder) -> None:
    """Makes sure that a run, if there is one, was trained with the builder's prompts.

    Raises:
        SettingsError: If it was trained with others.
    """
    if run and run.metrics["prompt_hash"] != builder.hash:
        raise SettingsError(f"run '{run.name}' was trained with other prompts", hint="give it the same settings")


def builder_for(prompt: PromptSettings, codec: Codec) -> PromptBuilder:
    """The builder of the prompts that the settings describe.

    Raises:
        SettingsError: If the layout or the reasoning is still to be resolved, or the task is unknown.
    """
    if prompt.layout == "auto" or prompt.reasoning == "auto":
        raise SettingsError("prompt.layout and prompt.reasoning must be resolved first", hint="name them")
    reasons = prompt.reasoning == "on"
    return PromptBuilder(TASKS[prompt.task], prompt.layout, reasons, prompt.max_tokens, codec, prompt.card)


def longest_completion(task: Task, *, reasons: bool) -> int:
    """How many tokens a completion for a task may have, where no setting says so."""
    answer = _LONG_ANSWER_TOKENS if task.is_long else _ANSWER_TOKENS
    return answer + (_REASONING_TOKENS - _ANSWER_TOKENS if reasons else 0)


def measured_layout(model: str) -> Layout | None:
    """The best layout of a model that was measured when this was written."""
    return _MEASURED_LAYOUTS.get(model)


def with_prompt(config: Config, **fields: Any) -> Config:
    """The configuration with other prompt settings."""
    return structs.replace(config, prompt=structs.replace(config.prompt, **fields))
