"""A network that starts from the echo rule: it learns only what the rule does not know."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from prlm_cli.core.errors import StorageError
from prlm_cli.core.workspace import read_json, write_text
from prlm_cli.models.echo import echo
from prlm_cli.models.reward_model import Encoded, Network
from prlm_cli.models.scorer import Item

_FILE = "echo.json"


class WithEcho(torch.nn.Module):
    """A network whose score is `s + weight * echo`; a `Network`.

    Args:
        network: Gives s.
        weight: In logits; fixed.
    """

    def __init__(self, network: Any, weight: float) -> None:
        super().__init__()
        self.network: Network = network
        self.weight = weight

    @property
    def model(self) -> Any:
        """The library's model within."""
        return self.network.model

    @property
    def learning_rate(self) -> float:
        """That of the network."""
        return self.network.learning_rate

    def encode(self, items: Sequence[Item]) -> list[Encoded]:
        """The items as the network reads them, with their echo."""
        encoded = self.network.encode(items)
        return [
            inputs._replace(echo=echo(item.answer, item.profile)) for inputs, item in zip(encoded, items, strict=True)
        ]

    def forward(self, inputs: Sequence[Encoded]) -> torch.Tensor:
        """(N,) scores in fp32; the gradient flows to the network."""
        scores = self.network(inputs)
        return scores + self.weight * torch.tensor([one.echo for one in inputs], device=scores.device)

    def batches(self, inputs: Sequence[Encoded]) -> Iterator[list[int]]:
        """As the network's."""
        return self.network.batches(inputs)

    def scoring(self) -> AbstractContextManager[None]:
        """As the network's."""
        return self.network.scoring()

    def save(self, folder: Path) -> None:
        """Writes what was trained, and the weight beside it."""
        self.network.save(folder)
        write_text(folder / _FILE, json.dumps({"weight": self.weight}) + "\n")

    def restore(self, folder: Path) -> None:
        """Puts what was saved into the network, in place."""
        self.network.restore(folder)


def with_saved_echo(network: Network, folder: Path) -> Network:
    """The network with the echo that was saved beside its weights; as it is where there is none.

    Raises:
        StorageError: If that is damaged.
    """
    path = folder / _FILE
    if not path.exists():
        return network
    weight = read_json(path).get("weight")
    if not isinstance(weight, int | float):
        raise StorageError(f"{path} cannot be read", hint="train the reward model again")
    return WithEcho(network, float(weight))
