import json

import pytest

from tests.engines.chat_server import prompt_of, serving

SECRET = "a very private request"


def _generate(prlm, workspace, answer, *arguments):
    with serving(answer) as server:
        place = ("--set", f"server.url={server.url}", "--set", "server.backoff=0.001", "--set", "server.model=m")
        result = prlm("generate", "-w", workspace, "--engine", "openai", *place, *arguments)
    return result, server.asked


def test_generate_asks_a_server_and_keeps_the_order(prlm, workspace):
    result, asked = _generate(prlm, workspace, lambda body: f"Title: {len(prompt_of(body))}")

    assert result.exit_code == 0
    by_prompt = [generation["usage"]["records"] for generation in result.records]
    assert by_prompt == [4, 4, 4] and len(asked) == 3
    assert {generation["policy"] for generation in result.records} == {"openai:m"}
    assert all(generation["answer"].isdigit() for generation in result.records)


def test_generate_says_in_one_line_what_a_server_refuses(prlm, workspace):
    result, _ = _generate(prlm, workspace, lambda body: (400, {}), "--user", "ada", "--text", SECRET)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "status 400" in result.stderr and SECRET not in result.stderr


def test_generate_keeps_no_key(prlm, workspace, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    result, _ = _generate(prlm, workspace, lambda body: "x")

    assert result.exit_code == 0 and "sk-secret" not in result.stdout + result.stderr
    assert not [path for path in workspace.rglob("*") if path.is_file() and b"sk-secret" in path.read_bytes()]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--offline"], 3, "--offline refuses that"),
        (["--set", "server.model="], 2, "server.model is not set"),
        (["--engine", "vllm"], 2, "generation.engine: expected 'hf' or 'openai'"),
        (["--policy", "mine"], 2, "mine"),
    ],
    ids=["offline", "no-model", "vllm", "no-such-run"],
)
def test_generate_refuses_before_anything_is_asked(prlm, workspace, arguments, code, says):
    result, asked = _generate(prlm, workspace, lambda body: "x", *arguments)

    assert (result.exit_code, result.stdout, asked) == (code, "", [])
    assert says in result.stderr


def test_generate_refuses_to_ask_a_server_for_the_weights_of_an_adapter(prlm, workspace, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({}))

    result, asked = _generate(prlm, workspace, lambda body: "x", "--policy", tmp_path)

    assert (result.exit_code, asked) == (2, [])
    assert "a server does not have the weights of a policy trained here" in result.stderr
