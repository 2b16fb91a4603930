from __future__ import annotations

import json
import random
import time

import pytest

from prlm_cli.core.errors import DataError, MissingError, SettingsError
from prlm_cli.core.network import refuse_network
from prlm_cli.core.prompts import Message, Prompt
from prlm_cli.core.settings import ServerSettings
from prlm_cli.engines import in_order
from prlm_cli.engines.openai import OpenAiEngine
from prlm_cli.engines.pieces import PieceCodec
from tests.engines.chat_server import prompt_of, serving

PRIVATE = "private words"


def _prompts(*texts):
    return [PieceCodec().encode(Prompt((Message("user", text),), True, "Title:")) for text in texts]


def _engine(url, **fields):
    return OpenAiEngine(ServerSettings(url=url, model="m", backoff=0.001, **fields), max_new_tokens=9)


def _ask(server, *texts, **fields):
    return in_order(_engine(server.url, **fields).complete(_prompts(*texts), [str(n) for n in range(len(texts))]))


def _after(failures, then="fine"):
    """Fails as often as there are failures, then answers."""
    left = list(failures)
    return lambda body: left.pop(0) if left else then


def test_answers_come_in_order_however_slow_and_no_more_at_once_than_allowed():
    def answer(body):
        time.sleep(random.random() / 50)
        return prompt_of(body).upper()

    with serving(answer) as server:
        found = _ask(server, *[f"text {n}" for n in range(20)], concurrency=3)

    assert [completion.text for completion in found] == [f"TEXT {n}" for n in range(20)]
    assert server.most in (2, 3)  # the server counts how many it answers at once
    assert [(c.tokens, c.truncated) for c in found[:1]] == [(3, False)]


@pytest.mark.parametrize(
    "failures",
    [[(429, {})], [(500, {}), (503, {"Retry-After": "0"})], [None, None], [(429, {"Retry-After": "Wed, 21 Oct"})]],
    ids=["429", "5xx", "dropped", "date"],
)
def test_what_may_pass_is_asked_again(failures):
    with serving(_after(failures)) as server:
        found = _ask(server, "a")

    assert found[0].text == "fine"
    assert len(server.asked) == len(failures) + 1


def test_a_slow_answer_is_a_timeout_and_retries_are_bounded():
    with serving(lambda body: "late", delay=0.4) as server, pytest.raises(MissingError) as failure:
        _ask(server, "a", timeout=0.05, retries=1)

    assert str(failure.value).startswith(f"{server.url}: no answer within 0.05 s, 2 times; ")


@pytest.mark.parametrize(
    ("answer", "error", "says", "asked"),
    [
        ((401, {}), MissingError, "status 401; put a key that it takes into OPENAI_API_KEY", 1),
        ((400, {}), DataError, "status 400; check", 1),
        ((307, {"Location": "http://127.0.0.1:9/"}), DataError, "status 307; check", 1),
        (b"not json", DataError, "the reply is no chat completion", 1),
        (b'{"choices": []}', DataError, "the reply is no chat completion", 1),
        (b'{"choices": [{"message": {"content": 3}}]}', DataError, "the reply is no chat completion", 1),
        ((429, {}), MissingError, "status 429, 3 times", 3),
        (None, MissingError, "3 times", 3),
    ],
    ids=["key", "bad", "redirect", "no-json", "no-choice", "no-text", "busy", "dropped"],
)
def test_what_goes_wrong_is_one_line_without_a_users_text(answer, error, says, asked):
    with serving(lambda body: answer) as server, pytest.raises(error) as failure:
        _ask(server, PRIVATE, retries=2)

    assert says in str(failure.value)
    assert "\n" not in str(failure.value) and PRIVATE not in repr(failure.value)
    assert failure.value.__cause__ is None or PRIVATE not in str(failure.value.__cause__)
    assert len(server.asked) == asked


def test_nobody_listening_is_said_after_bounded_tries():
    with pytest.raises(MissingError, match="no connection, 2 times"):
        list(_engine("http://127.0.0.1:9/v1", retries=1).complete(_prompts("a"), ["k"]))


def test_after_an_error_no_more_is_asked():
    with serving(lambda body: (400, {})) as server, pytest.raises(DataError):
        _ask(server, *["a"] * 50, concurrency=1)

    assert len(server.asked) < 50


def test_the_key_comes_from_the_named_variable_and_goes_nowhere_else(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-1")
    settings = ServerSettings(url="http://127.0.0.1:9", model="m", key_variable="MY_KEY")

    with serving(lambda body: "x") as server:
        _ask(server, "a", key_variable="MY_KEY")
        _ask(server, "a", key_variable="UNSET_KEY")

    assert [headers.get("Authorization") for headers in server.headers_seen] == ["Bearer secret-1", None]
    assert "secret-1" not in repr(settings) and "secret-1" not in json.dumps(server.asked)


def test_sampling_is_seeded_by_key_and_greedy_decoding_sends_no_seed():
    with serving(lambda body: "x") as server:
        _ask(server, "a")
        settings = ServerSettings(url=server.url, model="m", concurrency=1)
        for seed in (1, 1, 2):
            list(OpenAiEngine(settings, max_new_tokens=9, temperature=0.5, seed=seed).complete(_prompts("a"), ["k"]))

    greedy, one, again, other = server.asked
    assert "seed" not in greedy and (greedy["model"], greedy["max_tokens"]) == ("m", 9)
    assert one["seed"] == again["seed"] != other["seed"]


def test_a_thought_that_the_server_took_out_is_put_back():
    with serving(lambda body: {"content": "Title: A", "reasoning_content": "so"}) as server:
        assert _ask(server, "a")[0].text == "so\n</think>\nTitle: A"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model": ""}, "server.model is not set"),
        ({"url": "file:///etc/passwd"}, "server.url is no address of a web server"),
        ({"url": "http://me:pw@host/v1"}, "server.url is no address of a web server"),
    ],
    ids=["no-model", "file", "password"],
)
def test_settings_that_name_no_server_are_refused(fields, says):
    with pytest.raises(SettingsError, match=says):
        OpenAiEngine(ServerSettings(**({"model": "m"} | fields)), max_new_tokens=9)


def test_offline_refuses_before_anything_is_sent():
    refuse_network()
    try:
        with pytest.raises(MissingError, match="--offline"):
            _engine("http://127.0.0.1:9/v1")
    finally:
        refuse_network(False)
