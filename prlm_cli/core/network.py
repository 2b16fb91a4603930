"""`--offline`: no connection leaves the process."""

from __future__ import annotations

import os
import sys

from prlm_cli.core.errors import MissingError

_offline = False
_hooked = False


def is_offline() -> bool:
    """Whether connections are refused."""
    return _offline


def refuse_network(refuse: bool = True) -> None:
    """Refuses every connection from now on (or allows them again), and tells the model libraries so."""
    global _offline, _hooked
    _offline = refuse
    os.environ["HF_HUB_OFFLINE"] = "1" if refuse else "0"
    if refuse and not _hooked:
        sys.addaudithook(_refuse)
        _hooked = True


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if not _offline or event not in ("socket.connect", "socket.getaddrinfo"):
        return
    if event == "socket.connect" and isinstance(arguments[1], str | bytes):
        return  # a Unix socket stays on this machine
    raise MissingError(
        "a network connection was refused by --offline", hint="run without --offline, or `prlm pull` first"
    )
