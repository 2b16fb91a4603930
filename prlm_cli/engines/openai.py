"""Completions by a server that speaks OpenAI's chat completions: POST {url}/chat/completions.

What may pass is asked again, a bounded number of times and later each time: 408, 409, 425, 429, 5xx, a timeout, a lost
connection. Redirects are not followed, for the key would go along. No error quotes what a server said, since servers
quote the prompt.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from prlm_cli.core.errors import DataError, MissingError, PrlmError, SettingsError
from prlm_cli.core.network import is_offline
from prlm_cli.core.settings import ServerSettings
from prlm_cli.engines import Completion
from prlm_cli.engines.pieces import messages_of

_PASSING = frozenset({408, 409, 425, 429, *range(500, 600)})
_REFUSED = frozenset({401, 403})
_LONGEST_PAUSE = 60.0  # seconds
_LARGEST_REPLY = 16 * 2**20  # bytes


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None  # where a server takes the thought out of the text


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Reply(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Passing(NamedTuple):
    """Why a try failed that may go better: in words, and for how many seconds the server wants to be left alone."""

    why: str
    pause: float = 0.0


class OpenAiEngine:
    """The engine of a model on a server; its prompts are those of a `PieceCodec`.

    Args:
        server: Where it is and how it is asked.
        max_new_tokens: Longest completion.
        temperature: 0 decodes greedily.
        seed: Of the sampling, for servers that keep to it.

    Raises:
        SettingsError: If the settings name no model, or no address of a web server.
        MissingError: If connections are refused by --offline.
    """

    def __init__(self, server: ServerSettings, *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0) -> None:
        check(server)
        self._server = server
        self._max_new_tokens = max_new_tokens
        self._temperature = temperature
        self._seed = seed
        self._opener = urllib.request.build_opener(_NoRedirects)

    @property
    def decoding(self) -> dict[str, Any]:
        """What a completion depends on, besides its prompt, its key and the policy."""
        seed = self._seed if self._temperature else None
        return {"max_new_tokens": self._max_new_tokens, "temperature": self._temperature, "seed": seed}

    def complete(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> Iterator[dict[int, Completion]]:
        """The completions by the places of their prompts, one by one.

        Raises:
            MissingError: If the server cannot be reached, refuses the key, or fails again and again.
            DataError: If it refuses a prompt or answers with something else than a completion.
        """
        pool = ThreadPoolExecutor(self._server.concurrency)
        try:
            for place, completion in enumerate(pool.map(self._complete, prompts, keys)):
                yield {place: completion}
        finally:
            pool.shutdown(cancel_futures=True)  # after an error, what was not yet asked is not asked any more

    def _complete(self, ids: list[int], key: str) -> Completion:
        request = self._request(ids, key)
        for attempt in range(self._server.retries):
            found = self._try(request)
            if isinstance(found, Completion):
                return found
            time.sleep(min(_LONGEST_PAUSE, max(found.pause, self._server.backoff * 2**attempt)))
        last = self._try(request)
        if isinstance(last, Completion):
            return last
        why = f"{self._server.url}: {last.why}, {self._server.retries + 1} times"
        raise MissingError(why, hint="raise server.retries or wait")

    def _request(self, ids: list[int], key: str) -> urllib.request.Request:
        asked: dict[str, Any] = {
            "model": self._server.model,
            "messages": [message._asdict() for message in messages_of(ids)],
            "max_tokens": self._max_new_tokens,
            "temperature": self._temperature,
        }
        if self._temperature:
            asked["seed"] = int.from_bytes(hashlib.blake2b(f"{self._seed}:{key}".encode(), digest_size=4).digest())
        headers = {"Content-Type": "application/json"}
        if secret := os.environ.get(self._server.key_variable, "").strip():
            headers["Authorization"] = f"Bearer {secret}"
        url = f"{self._server.url.rstrip('/')}/chat/completions"
        return urllib.request.Request(url, msgspec.json.encode(asked), headers, method="POST")

    def _try(self, request: urllib.request.Request) -> Completion | _Passing:
        try:
            with self._opener.open(request, timeout=self._server.timeout) as response:
                return self._read(response.read(_LARGEST_REPLY))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _PASSING:
                return _Passing(f"status {error.code}", _seconds(error.headers.get("Retry-After")))
            raise self._refusal(error.code) from None  # the cause holds the server's words
        except TimeoutError:
            return _Passing(f"no answer within {self._server.timeout:g} s")
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                return _Passing(f"no answer within {self._server.timeout:g} s")
            return _Passing("no connection")
        except (http.client.HTTPException, OSError):
            return _Passing("the connection was lost")

    def _read(self, body: bytes) -> Completion:
        try:
            reply = msgspec.json.decode(body, type=_Reply)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._no_completion() from None
        if not reply.choices:
            raise self._no_completion()
        message, tokens = reply.choices[0].message, reply.usage.completion_tokens if reply.usage else 0
        thought = f"{message.reasoning_content}\n</think>\n" if message.reasoning_content else ""
        return Completion(thought + (message.content or ""), tokens, reply.choices[0].finish_reason == "length")

    def _no_completion(self) -> DataError:
        return DataError(f"{self._server.url}: the reply is no chat completion", hint="check server.url")

    def _refusal(self, status: int) -> PrlmError:
        if status in _REFUSED:
            hint = f"put a key that it takes into {self._server.key_variable}"
            return MissingError(f"{self._server.url}: status {status}", hint=hint)
        return DataError(f"{self._server.url}: status {status}", hint="check server.url and server.model")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def check(server: ServerSettings) -> None:
    """Whether a server can be asked at all; nothing is sent.

    Raises:
        SettingsError: If the settings name no model, or no address of a web server.
        MissingError: If connections are refused by --offline.
    """
    if not server.model:
        raise SettingsError("server.model is not set", hint="say what the server calls the model")
    place = urlsplit(server.url)
    if place.scheme not in ("http", "https") or not place.hostname or place.username:
        hint = "such as http://localhost:8000/v1, without a name or a key in it"
        raise SettingsError("server.url is no address of a web server", hint=hint)
    if is_offline():
        raise MissingError("the engine openai asks a server, and --offline refuses that", hint="run without --offline")


def _seconds(header: str | None) -> float:
    """What Retry-After says; 0 where it says nothing, or names a date."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
