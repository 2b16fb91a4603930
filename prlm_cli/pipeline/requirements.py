"""`prlm compare --require`: a bound that a difference has to keep to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prlm_cli.core.errors import RefusedError, SettingsError
from prlm_cli.metrics import METRICS
from prlm_cli.pipeline.compare import Comparison

_REQUIREMENT = re.compile(r"\s*(\w+)\s*(>=|<=)\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*", re.ASCII)


class Requirement(NamedTuple):
    """A bound that the whole interval of a difference must keep to."""

    metric: str
    sign: str
    bound: float


def parse_requirement(text: str) -> Requirement:
    """A requirement such as "rougeL>=+0.01": the 95 % interval of A - B must lie at or above the number (`<=`: below).

    Raises:
        SettingsError: If the text is not one, or its metric is unknown.
    """
    match = _REQUIREMENT.fullmatch(text)
    if not match:
        raise SettingsError(f"requirement '{text}': not METRIC>=NUMBER", hint='for example "rougeL>=+0.01"')
    metric, sign, number = match.groups()
    METRICS[metric]  # an unknown one is refused here, before anything is read
    return Requirement(metric, sign, float(number))


def meets(requirement: str, comparison: Comparison) -> bool:
    """Whether the comparison meets the requirement; see `parse_requirement`.

    Raises:
        SettingsError: If the requirement cannot be read, or is about another metric.
    """
    metric, sign, bound = parse_requirement(requirement)
    if metric != comparison.metric:
        raise SettingsError(f"requirement '{requirement}' is not about {comparison.metric}", hint="compare that metric")
    return comparison.difference.low >= bound if sign == ">=" else comparison.difference.high <= bound


def check(requirements: Iterable[str], comparisons: Sequence[Comparison]) -> None:
    """Does nothing if every comparison meets the requirements on its metric.

    Raises:
        RefusedError: If one does not.
        SettingsError: If a requirement cannot be read.
    """
    for requirement in requirements:
        metric, sign, _ = parse_requirement(requirement)
        for comparison in comparisons:
            if comparison.metric == metric and not meets(requirement, comparison):
                raise RefusedError(
                    f"{requirement} is not met: A - B is {comparison.difference.mean:+.4f},"
                    f" its 95 % interval {comparison.difference:+.4f}",
                    hint=f"the {'lower' if sign == '>=' else 'upper'} end of the interval has to reach the number",
                )
