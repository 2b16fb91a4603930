"""A sweep: one policy with other records or other prompts, every combination of the values of some settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import SettingsError, did_you_mean
from prlm_cli.core.records import Query
from prlm_cli.core.sections import settings_of
from prlm_cli.core.settings import Config, PromptSettings, RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.pipeline.conditions import Condition
from prlm_cli.pipeline.retrieve import retrieve

_TRAINED_FOR = {"reasoning", "task"}  # of the prompt: with another one it would be another policy
_EXAMPLE = 'for example "k=0,2,5;retriever=bm25,random"'


class Combination(NamedTuple):
    """One value of each setting: what it is called, the values by the names of the settings, and the configuration."""

    name: str
    facts: dict[str, object]
    config: Config


def combinations(text: str, config: Config) -> list[Combination]:
    """The combinations that a sweep such as "k=0,2,5;retriever=bm25,random" stands for, all of them checked.

    Args:
        text: KEY=VALUE,VALUE,... with ; between the keys; a key is a setting of retrieval or of the prompt.
        config: What all other settings are.

    Raises:
        SettingsError: If it cannot be read, a key is unknown or named twice, or a value is not allowed.
    """
    axes = _axes(text)
    places = {key: _place(key) for key in axes}
    return [_combination(dict(zip(axes, values, strict=True)), places, config) for values in product(*axes.values())]


def reference_of(swept: Sequence[Combination], config: Config) -> str:
    """The name of the combination that is the policy's own setting, or of the first where none is."""
    return next((combination.name for combination in swept if combination.config == config), swept[0].name)


def sweep(swept: Sequence[Combination], store: Store, queries: Sequence[Query]) -> Iterator[Condition]:
    """The condition of each combination, its records retrieved anew."""
    for name, facts, config in swept:
        shown = list(retrieve(store, queries, config.retrieval, prompt=config.prompt, seed=config.seed))
        yield Condition(name, shown, facts=facts, prompt=config.prompt)


def _axes(text: str) -> dict[str, list[str]]:
    axes: dict[str, list[str]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, values = part.partition("=")
        found = list(dict.fromkeys(value.strip() for value in values.split(",") if value.strip()))
        if not equals or not found:
            raise SettingsError(f"--sweep '{part}': not KEY=VALUE,VALUE", hint=_EXAMPLE)
        if axes.setdefault(key.strip(), found) is not found:
            raise SettingsError(f"--sweep names {key.strip()} twice", hint="give all of its values at once")
    if not axes:
        raise SettingsError("--sweep names no setting", hint=_EXAMPLE)
    return axes


def _place(key: str) -> str:
    """The "section.key" of a key of a sweep."""
    known = {name: f"retrieval.{name}" for name in settings_of(RetrievalSettings)}
    known |= {name: f"prompt.{name}" for name in settings_of(PromptSettings) if name not in _TRAINED_FOR}
    known |= {place: place for place in known.values()}
    if key not in known:
        raise SettingsError(f"--sweep: no setting '{key}' of retrieval or prompt", hint=did_you_mean(key, known))
    return known[key]


def _combination(values: dict[str, str], places: dict[str, str], config: Config) -> Combination:
    resolved = resolve(base=config, assignments=[f"{places[key]}={value}" for key, value in values.items()])
    facts: dict[str, object] = {}
    for key in values:
        section, name = places[key].split(".")
        facts[name] = getattr(getattr(resolved, section), name)
    return Combination(" ".join(f"{key}={value}" for key, value in values.items()), facts, resolved)
