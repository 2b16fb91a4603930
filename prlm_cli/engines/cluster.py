"""Ray, for work on more than one core or machine: a cluster that runs, or one of this machine's own for a while.

What its processes give back is JSON, an error of ours included: `report` in a worker, `result_of` where it is awaited.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from prlm_cli.core import errors
from prlm_cli.core.errors import MissingError, OutOfMemoryError, PrlmError, SettingsError, StorageError
from prlm_cli.core.network import is_offline

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "-1",  # one input may take hours
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what Ray would print to stdout, among the records, whatever its log level
}
_OBJECT_STORE_BYTES = 200 * 2**20  # records pass through it in small parts
_TIMEOUT = 5.0  # seconds to wait for a cluster to answer; Ray itself tries for a quarter of an hour

Result = TypeVar("Result", bound=msgspec.Struct)


class Failure(msgspec.Struct, frozen=True, tag=True):
    """A `PrlmError` on its way between processes."""

    kind: str
    message: str
    hint: str

    @property
    def error(self) -> PrlmError:
        """The error again."""
        error: PrlmError = getattr(errors, self.kind)(self.message, hint=self.hint)
        return error


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """The module `ray`, connected: to the cluster that `RAY_ADDRESS` names, or to one that ends with the block.

    Where there is a connection already, it is used and left as it is.

    Raises:
        MissingError: If Ray is not installed, cannot be reached, or loses a worker.
        OutOfMemoryError: If a worker does not fit.
        SettingsError: If the network is refused: Ray's processes talk over it, and nothing here could hold them back.
    """
    if is_offline():
        raise SettingsError("--engine ray and --offline", hint="Ray connects its processes over the network; drop one")
    ray = _import_ray()
    with contextlib.nullcontext() if ray.is_initialized() else _connected(ray):
        try:
            yield ray
        except ray.exceptions.RayTaskError:
            raise  # a bug in what was run
        except ray.exceptions.OutOfMemoryError as error:
            raise _out_of_memory() from error
        except ray.exceptions.RayError as error:
            lost = f"Ray lost a worker ({type(error).__name__})"
            raise MissingError(lost, hint="run the command again: it goes on from what is stored") from error


def report(work: Callable[[], msgspec.Struct]) -> bytes:
    """What some work gives, a tagged struct, or the error that it ends with."""
    try:
        return msgspec.json.encode(work())
    except PrlmError as error:
        return msgspec.json.encode(failure_of(error))
    except MemoryError:
        return msgspec.json.encode(failure_of(_out_of_memory()))
    except OSError as error:
        where = error.filename or "a disk of the cluster"
        full = StorageError(f"{where}: {error.strerror}", hint="free some space or check the permissions")
        return msgspec.json.encode(failure_of(full))


def result_of(given: bytes, kind: type[Result]) -> Result:
    """What `report` gave.

    Raises:
        PrlmError: If it is an error.
    """
    found: Result | Failure = msgspec.json.decode(given, type=kind | Failure)
    if isinstance(found, Failure):
        raise found.error
    return found


def failure_of(error: PrlmError) -> Failure:
    """An error, to be sent."""
    return Failure(type(error).__name__, error.message, error.hint)


def _out_of_memory() -> OutOfMemoryError:
    return OutOfMemoryError("a Ray worker is out of memory", hint="give the cluster fewer CPUs")


def _import_ray() -> Any:
    os.environ |= _ENVIRONMENT
    if not {"RAY_ADDRESS", "RAY_AUTH_MODE"} & os.environ.keys() and "ray" not in sys.modules:
        # Its ports are open to whoever reaches this machine. Without a token of ours, Ray would keep one at home.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise MissingError("--engine ray needs Ray", hint="pip install 'prlm[ray]'") from error
    for handler in logging.getLogger("ray.data").handlers:
        handler.setLevel(logging.CRITICAL)
    return ray


@contextlib.contextmanager
def _connected(ray: Any) -> Iterator[None]:
    address = os.environ.get("RAY_ADDRESS", "local")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with contextlib.ExitStack() as stack:
        try:
            if address == "local":
                # The paths of its sockets must be short: not in the workspace, nor wherever TMPDIR points.
                place = "/tmp" if os.name == "posix" else None
                folder = tempfile.TemporaryDirectory(prefix="prlm-ray-", dir=place, ignore_cleanup_errors=True)
                options |= {"_temp_dir": stack.enter_context(folder), "object_store_memory": _OBJECT_STORE_BYTES}
                options |= {"include_dashboard": False}
            elif address != "auto":
                _check_reachable(address)
            stack.callback(ray.shutdown)
            with _own_sigterm():
                ray.init(address, **options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            what = "Ray does not start" if address == "local" else f"no Ray cluster at RAY_ADDRESS={address}"
            raise MissingError(f"{what} ({error})", hint="without RAY_ADDRESS a cluster is started here") from error
        yield


def _check_reachable(address: str) -> None:
    place = urlsplit(address if "://" in address else f"//{address}")
    socket.create_connection((place.hostname or "", place.port or 0), timeout=_TIMEOUT).close()


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """A block in which Ray sets a handler of SIGTERM of its own; after it the one of before is back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
