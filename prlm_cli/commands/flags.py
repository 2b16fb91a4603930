"""`config_flags`: flags for settings, each declared once, in the settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from prlm_cli.commands.options import keyword, with_parameters
from prlm_cli.core import configuration
from prlm_cli.core.presets import PRESETS
from prlm_cli.core.sections import bare
from prlm_cli.core.settings import Config


@dataclass(frozen=True)
class Layers:
    """The layers that a command line gave, for a command that lays them over a run's configuration."""

    preset: str
    config_file: Path | None
    assignments: list[str]
    flags: dict[str, Any]

    def resolve(self, base: Config | None = None) -> Config:
        """The configuration: these layers over the defaults, or over that of a run."""
        return configuration.resolve(
            base=base,
            preset=self.preset,
            config_file=self.config_file,
            assignments=self.assignments,
            flags=self.flags,
        )


_LAYERS: dict[str, tuple[Any, Any]] = {
    "preset": (str, typer.Option("--preset", help=f"Starting point: {' or '.join(PRESETS)}.")),
    "config_file": (Path | None, typer.Option("--config", help="Configuration file, TOML.")),
    "assignments": (list[str], typer.Option("--set", metavar="KEY=VALUE", help="Set section.key=value; repeatable.")),
}
_LAYER_DEFAULTS: dict[str, Any] = {"preset": "default", "config_file": None, "assignments": []}

RETRIEVAL_FLAGS = {
    name: f"retrieval.{name}"
    for name in (
        "k",
        "retriever",
        "encoder",
        "rerank",
        "mmr",
        "as_of",
        "since",
        "where",
        "undated",
        "dedupe",
        "min_score",
        "corpus",
    )
}
"""The flags of commands that retrieve."""


def config_flags(**flags: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command flags for settings; the command takes one `config`, or the `layers` unresolved.

    Every command so decorated also takes --preset, --config and --set.

    Args:
        flags: Parameter name -> "section.key", for example `num_generations="policy.num_generations"`. The flag is the
            name with hyphens, `k` is -k. One that is not given leaves the value of the weaker layers.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def wrapper(context: typer.Context, **arguments: Any) -> None:
            values = {name: arguments.pop(name) for name in flags}
            layers = Layers(
                **{name: arguments.pop(name) for name in _LAYERS},
                flags={key: values[name] for name, key in flags.items() if _is_given(context, name)},
            )
            command(**arguments, **({"layers": layers} if takes_layers else {"config": layers.resolve()}))

        declared = inspect.signature(command, eval_str=True).parameters
        takes_layers = "layers" in declared
        own = [parameter for name, parameter in declared.items() if name not in ("config", "layers")]
        added = [_flag(name, key) for name, key in flags.items()]
        added += [keyword(name, kind, option, _LAYER_DEFAULTS[name]) for name, (kind, option) in _LAYERS.items()]
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        return with_parameters(wrapper, command, [context, *own, *added])

    return decorate


def _flag(name: str, key: str) -> inspect.Parameter:
    setting = configuration.describe(key)
    names = ["-k"] if name == "k" else [f"--{name.replace('_', '-')}"]
    kind = bare(setting.type)
    metavar = None
    if kind is bool:
        names = [f"{names[0]}/--no-{name.replace('_', '-')}"]
    elif get_origin(kind) is Literal:
        kind, metavar = str, "|".join(get_args(kind))  # the settings check the value
    option = typer.Option(*names, help=setting.help, metavar=metavar)
    if setting.default is None:
        kind |= None
    return keyword(name, kind, option, setting.default)


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether a flag was typed; its default only tells what holds where no layer says otherwise."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


__all__ = ["RETRIEVAL_FLAGS", "Config", "config_flags"]
