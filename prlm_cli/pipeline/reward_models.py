"""A reward model, new or of a run, ready to use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import StorageError
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config, ModelSettings
from prlm_cli.core.workspace import Run
from prlm_cli.models.reward_model import Network, RewardModel

if TYPE_CHECKING:
    from prlm_cli.core.prompts import PromptBuilder


class Base(NamedTuple):
    """A base model that is in memory, with an adapter: its folder, how it was loaded, and itself."""

    folder: Path
    settings: ModelSettings
    model: Any

    def is_loaded_as(self, folder: Path, settings: ModelSettings) -> bool:
        """Whether it is what `load_base` would make of these."""
        same = (self.settings.qlora, self.settings.precision) == (settings.qlora, settings.precision)
        return same and self.folder == folder


def find_reward_model(config: Config, reporter: Reporter) -> Path:
    """The folder of the model that is to score: the policy's base where no other is named.

    Raises:
        MissingError: If it cannot be had.
    """
    from prlm_cli.models.loading import resolve_model

    return resolve_model(config.reward.model or config.model.name, reporter)


def new_reward_model(config: Config, reporter: Reporter, *, blind: bool = False) -> RewardModel:
    """A reward model to train: an encoder with a new head, or a causal model with a new adapter and head.

    Args:
        config: Model and reward settings.
        reporter: Told about a download.
        blind: Without the profile, whatever the settings say.

    Raises:
        MissingError: If the model cannot be had.
        SettingsError: If it cannot be given a score.
    """
    from prlm_cli.models.causal_network import new_causal_network
    from prlm_cli.models.encoder_network import load_encoder_network
    from prlm_cli.models.loading import is_causal, load_base

    folder = find_reward_model(config, reporter)
    sees_profile = config.reward.profile and not blind
    longest = config.reward.max_answer_tokens
    if not is_causal(folder):
        encoder = load_encoder_network(
            folder, max_tokens=config.reward.max_tokens, seed=config.seed, max_answer_tokens=longest
        )
        return RewardModel(encoder, sees_profile=sees_profile)
    base = load_base(folder, config.model)
    causal = new_causal_network(
        base, config.model, _builder(config, folder), seed=config.seed, max_answer_tokens=longest
    )
    return RewardModel(causal, sees_profile=sees_profile)


def load_reward_model(run: Run, reporter: Reporter, *, blind: bool = False, base: Base | None = None) -> RewardModel:
    """The reward model of a finished run.

    Args:
        run: Of kind reward.
        reporter: Told about a download.
        blind: Its twin that does not see the profile, instead.
        base: A model in memory. Where the reward model sits on the same, it becomes an adapter beside those it has.

    Raises:
        MissingError: If the model it sits on cannot be had.
        StorageError: If the run has none, or it is damaged.
    """
    from prlm_cli.models.reward_model import load_temperature
    from prlm_cli.models.with_echo import with_saved_echo

    config = resolve(config_file=run.folder / "config.toml")
    saved = (twin_of(run) if blind else run).adapter
    if not saved.is_dir():
        what = "blind twin" if blind else "reward model"
        raise StorageError(f"run '{run.name}' holds no {what}", hint="train the reward model again")
    network = _load_network(saved, config, base, "blind" if blind else "reward", reporter)
    return RewardModel(
        with_saved_echo(network, saved),
        sees_profile=config.reward.profile and not blind,
        temperature=load_temperature(saved),
    )


def load_twin(run: Run, reporter: Reporter) -> RewardModel | None:
    """The blind twin of a finished run; None where it has none."""
    return load_reward_model(run, reporter, blind=True) if twin_of(run).adapter.is_dir() else None


def folders_of(run: Run, reporter: Reporter) -> tuple[Path, ...]:
    """Where the weights of a run's reward model lie: what was trained, and the model that it sits on.

    Raises:
        MissingError: If the model it sits on cannot be had.
    """
    if _is_encoder(run.adapter):
        return (run.adapter,)
    return run.adapter, find_reward_model(resolve(config_file=run.folder / "config.toml"), reporter)


def twin_of(run: Run) -> Run:
    """Where the blind twin of a run is kept: a run within it, without a state of its own."""
    return Run(run.folder / "blind")


def _load_network(saved: Path, config: Config, base: Base | None, adapter: str, reporter: Reporter) -> Network:
    from prlm_cli.models.causal_network import load_causal_network
    from prlm_cli.models.encoder_network import load_encoder_network
    from prlm_cli.models.loading import load_base

    longest = config.reward.max_answer_tokens
    if _is_encoder(saved):
        return load_encoder_network(saved, max_tokens=config.reward.max_tokens, max_answer_tokens=longest)
    folder = find_reward_model(config, reporter)
    builder = _builder(config, folder)
    if base and base.is_loaded_as(folder, config.model):
        return load_causal_network(base.model, saved, builder, max_answer_tokens=longest, adapter=adapter)
    return load_causal_network(load_base(folder, config.model), saved, builder, max_answer_tokens=longest)


def _is_encoder(saved: Path) -> bool:
    """Whether what was saved is a whole model, and no adapter."""
    return (saved / "config.json").is_file()


def _builder(config: Config, folder: Path) -> PromptBuilder:
    from prlm_cli.core.prompts import PromptBuilder
    from prlm_cli.models.loading import load_tokenizer
    from prlm_cli.models.tokenization import TokenizerCodec
    from prlm_cli.tasks import TASKS

    task, codec = TASKS[config.prompt.task], TokenizerCodec(load_tokenizer(folder))
    return PromptBuilder(task, "completion", False, config.reward.max_tokens, codec)
