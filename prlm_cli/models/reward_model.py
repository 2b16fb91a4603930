"""The personalisation reward model: how well an answer fits a query and its user's records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from prlm_cli.core.errors import StorageError
from prlm_cli.core.workspace import read_json, write_text
from prlm_cli.models.scorer import Item

if TYPE_CHECKING:
    import torch

_TEMPERATURE_FILE = "temperature.json"


class Encoded(NamedTuple):
    """An input as a network reads it.

    Of a causal model `ids` are those of the prompt and `more` those of the answer. Of an encoder `ids` are those of
    both together and `more` the segment of each (none where the model knows no segments). `echo` is the rule's score,
    where the network adds it.
    """

    ids: tuple[int, ...]
    more: tuple[int, ...]
    echo: float = 0.0


class Network(Protocol):
    """What turns encoded inputs into scores, and is trained."""

    @property
    def model(self) -> Any:
        """The library's model within."""
        ...

    @property
    def learning_rate(self) -> float:
        """The peak at which such a network trains well."""
        ...

    def encode(self, items: Sequence[Item]) -> list[Encoded]:
        """The items as the network reads them."""
        ...

    def __call__(self, inputs: Sequence[Encoded]) -> torch.Tensor:
        """(N,) scores in fp32, in the order of the inputs; the gradient flows."""
        ...

    def batches(self, inputs: Sequence[Encoded]) -> Iterator[list[int]]:
        """The positions of the inputs in batches that fit into memory."""
        ...

    def scoring(self) -> AbstractContextManager[None]:
        """A block in which the network scores and is not trained; it is as before after it."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what was trained, as safetensors."""
        ...

    def restore(self, folder: Path) -> None:
        """Puts what was saved into the network, in place."""
        ...


class RewardModel:
    """A scorer of (profile, query, answer); a `Scorer`.

    Args:
        network: Gives the scores.
        sees_profile: Whether it is shown the records; the paper's is not.
        temperature: T in `sigmoid(s / T)`.
    """

    def __init__(self, network: Network, *, sees_profile: bool, temperature: float = 1.0) -> None:
        self.network = network
        self.sees_profile = sees_profile
        self.temperature = temperature

    def encode(self, items: Sequence[Item]) -> list[Encoded]:
        """The items as the network reads them; a blind one without their records."""
        return self.network.encode(items if self.sees_profile else [item._replace(profile=()) for item in items])

    def scores(self, items: Sequence[Item]) -> list[float]:
        """The logit of each item; equal inputs get the very same one."""
        return self.scores_of(self.encode(items))

    def scores_of(self, inputs: Sequence[Encoded]) -> list[float]:
        """The logit of each encoded input; equal ones get the very same one."""
        import torch

        # Scored once: in another batch the same input differs in its last digits, which would pass for a difference.
        unique = list(dict.fromkeys(inputs))
        found: dict[Encoded, float] = {}
        with self.network.scoring(), torch.no_grad():
            for batch in self.network.batches(unique):
                chosen = [unique[n] for n in batch]
                found.update(zip(chosen, self.network(chosen).tolist(), strict=True))
        return [found[encoded] for encoded in inputs]

    def rewards(self, items: Sequence[Item]) -> list[float]:
        """`sigmoid(logit / temperature)` of each item, in [0, 1]."""
        return [self.reward(score) for score in self.scores(items)]

    def reward(self, score: float) -> float:
        """The reward that a logit stands for."""
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, score / self.temperature))))


def fit_temperature(margins: Sequence[float]) -> float:
    """The T that makes `sigmoid(margin / T)` most likely where every margin should be positive; 1 without margins.

    Bounded below, so that margins that are all positive do not turn the reward into a step.
    """
    return 1 / _most_likely(margins, [2 ** (-power / 4) for power in range(-8, 17)]) if margins else 1.0


def fit_echo_weight(margins: Sequence[float]) -> float:
    """The weight that makes `sigmoid(weight * margin)` of the echo rule's margins most likely; 0 where it says nothing.

    Bounded above: a rule that were right about all pairs would leave the network nothing to learn.
    """
    return _most_likely(margins, [0.0, *(2 ** (power / 4) for power in range(25))])


def _most_likely(margins: Sequence[float], scales: Sequence[float]) -> float:
    # A scan over a grid: the likelihood has one peak, and two digits are enough.
    return min(scales, key=lambda scale: sum(math.log1p(math.exp(min(50.0, -m * scale))) for m in margins))


def save_temperature(folder: Path, temperature: float) -> None:
    """Keeps T beside the weights."""
    write_text(folder / _TEMPERATURE_FILE, f'{{"temperature": {temperature}}}\n')


def load_temperature(folder: Path) -> float:
    """The T kept beside the weights.

    Raises:
        StorageError: If it is missing or damaged.
    """
    path = folder / _TEMPERATURE_FILE
    found = read_json(path).get("temperature")
    if not isinstance(found, int | float) or not 0 < found < math.inf:
        raise StorageError(f"{path} cannot be read", hint="train the reward model again")
    return float(found)
