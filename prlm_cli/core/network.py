"""`--offline`: no connection leaves the process."""

from __future__ import annotations

import os
import sys

from prlm_cli.core.errors import MissingError

_TO_AN_ADDRESS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")
_VARIABLE = "HF_HUB_OFFLINE"

_offline = False
_hooked = False
_earlier: str | None = None  # the variable as it was before


def is_offline() -> bool:
    """Whether connections are refused."""
    return _offline


def refuse_network(refuse: bool = True) -> None:
    """Refuses every connection from now on (or allows them again), and tells the model libraries so."""
    global _offline, _hooked, _earlier
    if refuse and not _offline:
        _earlier = os.environ.get(_VARIABLE)
    if refuse:
        os.environ[_VARIABLE] = "1"
    elif _offline:
        os.environ.pop(_VARIABLE, None)
        os.environ |= {} if _earlier is None else {_VARIABLE: _earlier}
    _offline = refuse
    if refuse and not _hooked:
        sys.addaudithook(_refuse)
        _hooked = True


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if not _offline or event not in _TO_AN_ADDRESS + _LOOK_UPS:
        return
    # The address of a Unix socket, which stays on this machine, is a path; a connected socket needs none.
    if event in _TO_AN_ADDRESS and isinstance(arguments[1], str | bytes | None):
        return
    raise MissingError(
        "a network connection was refused by --offline", hint="run without --offline, or `prlm pull` first"
    )
