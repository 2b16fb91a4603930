"""Whatever is wrong with the input: one line on stderr, the right exit code, nothing on stdout, the store as it was."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import contents

GOOD = {"query_id": "q1", "user_id": "ada", "text": "parsing at scale"}
LINES = [
    (b'{"query_id": "q2", "user_id": "ada", "text": "t"', "not valid JSON"),
    (b'{"query_id": "q2", "user_id": "ada", "text": "t", "text": "u"}', "not valid JSON (key 'text' stands twice)"),
    (b'{"query_id": "q2", "text": "t"}', "no field 'user_id'"),
    (b'{"query_id": "q2", "user_id": 7, "text": "t"}', "field 'user_id': expected str, got int"),
    (b'{"query_id": "q2", "user_id": "ada", "text": "caf\xe9"}', "not UTF-8 (byte 50 of the line)"),
    (b"[1, 2]", "a JSON list, not an object"),
]


@pytest.fixture
def refused(prlm, workspace):
    """Runs a command that must fail, in a workspace that must stay as it is, and returns its one line on stderr."""

    def run(*args, code=2, input=None):
        before = contents(workspace)
        result = prlm(*args, "-q", "-w", workspace, input=input)
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr.startswith("prlm: ") and result.stderr.count("\n") == 1
        assert contents(workspace) == before
        return result.stderr.removeprefix("prlm: ").rstrip("\n")

    return run


@pytest.fixture
def bad_file(tmp_path):
    """Writes a file of a good line and the given one."""

    def write(line, good=GOOD):
        path = tmp_path / "bad.jsonl"
        path.write_bytes(json.dumps(good).encode() + b"\n" + line + b"\n")
        return path

    return write


@pytest.mark.parametrize(("line", "message"), LINES, ids=[message[:20] for _, message in LINES])
def test_a_bad_line_of_index_names_file_and_line_and_stores_nothing(refused, bad_file, line, message):
    path = bad_file(line)
    error = refused("index", path)

    assert error.startswith(f"{path}:2: {message}")
    assert error.endswith("nothing was stored")


def test_the_bad_lines_of_index_are_all_counted(refused, bad_file):
    assert "(4 bad lines in all; also " in refused("index", bad_file(b"{\n[]\n{}\n7"))


@pytest.mark.parametrize(("line", "message"), LINES, ids=[message[:20] for _, message in LINES])
def test_a_bad_line_of_retrieve_comes_after_the_results_before_it(prlm, workspace, bad_file, line, message):
    path = bad_file(line)
    result = prlm("retrieve", path, "-w", workspace)

    assert (result.exit_code, [record["query_id"] for record in result.records]) == (2, ["q1"])
    assert result.stderr.startswith(f"prlm: {path}:2: {message}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(("line", "message"), LINES, ids=[message[:20] for _, message in LINES])
def test_a_bad_line_leaves_no_output_file(refused, bad_file, tmp_path, line, message):
    path = bad_file(line)

    assert refused("retrieve", path, "-o", "out.jsonl").startswith(f"{path}:2: {message}")
    assert [entry.name for entry in tmp_path.iterdir() if "out" in entry.name] == []


def test_a_bad_line_on_standard_input_is_named(refused):
    assert refused("retrieve", "-", input='{"query_id": "q"}\n').startswith("<stdin>:1: no field 'user_id'")
    assert refused("index", "-", input='\n{"user_id": "ada"}\n').startswith("<stdin>:2: no field 'text'")


def test_a_bad_line_of_generate_is_known_before_a_model_is_looked_for(refused, bad_file):
    path = bad_file(b"", good={"query_id": "q"})

    assert refused("generate", path, "--model", "nope", "--offline").startswith(f"{path}:1: no field 'user_id'")


@pytest.mark.parametrize("command", ["eval", "compare"])
def test_a_bad_line_of_generations_is_named(refused, bad_file, command):
    path = bad_file(b"", good=GOOD)
    args = [path] if command == "eval" else [path, path]

    assert refused(command, *args).startswith(f"{path}:1: no field '")


@pytest.mark.parametrize("content", [b"", b"\n \r\n"], ids=["empty", "blank"])
def test_an_empty_file_is_an_error_for_index_and_an_empty_result_for_a_stream(prlm, refused, tmp_path, content):
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)

    assert refused("index", path).startswith(f"{path}: no records")
    assert prlm("retrieve", path, "-w", tmp_path / "workspace") == (0, "", "")


@pytest.mark.parametrize("command", ["index", "retrieve", "generate", "eval"])
def test_a_directory_or_a_missing_file_as_input(refused, tmp_path, command):
    folder = tmp_path / "folder"
    folder.mkdir()

    what = "no data in this folder" if command == "index" else "is a directory"
    assert re.match(rf"{re.escape(str(folder))}:? {what}; name ", refused(command, folder))
    assert refused(command, tmp_path / "no.jsonl").startswith(f"{tmp_path / 'no.jsonl'}: no such file")


@pytest.mark.parametrize("command", ["retrieve", "generate"])
@pytest.mark.parametrize("text", [[], ["--text", "parsing"]], ids=["stored queries", "text"])
def test_an_unknown_user(refused, command, text):
    error = refused(command, "--user", "nobody", *text)

    assert error == "no user 'nobody' in the index; index some of the user's documents first"


def test_a_text_without_a_user(refused):
    assert refused("retrieve", "--text", "parsing") == "--text needs --user; say whose query it is"


@pytest.mark.parametrize("command", ["retrieve", "generate", "train-reward", "train-policy", "eval"])
def test_an_unknown_key_of_the_configuration(refused, tmp_path, command):
    file = tmp_path / "my.toml"
    file.write_text("seed = 1\n\n[retrieval]\nkk = 3\n")

    assert refused(command, "--set", "retrieval.kk=3") == "--set unknown key retrieval.kk; did you mean retrieval.k?"
    assert refused(command, "--config", file) == f"{file}:4: unknown key retrieval.kk; did you mean retrieval.k?"


def test_a_configuration_file_that_is_missing_or_no_toml(refused, tmp_path):
    (tmp_path / "my.toml").write_text("seed 1\n")

    assert refused("retrieve", "--config", "no.toml").startswith("no.toml: no such file")
    assert refused("retrieve", "--config", "my.toml").startswith("my.toml: Expected '=' after a key")


@pytest.mark.parametrize("command", ["retrieve", "generate", "train-reward", "train-policy"])
def test_without_an_index_each_command_says_how_to_make_one(prlm, tmp_path, command):
    result = prlm(command, "-w", tmp_path / "none")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f"prlm: no index in {tmp_path / 'none'}; run `prlm index DATA` first\n")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "args",
    [
        ["generate", "--policy", "nope"],
        ["train-policy", "--reward-model", "nope"],
        ["train-policy", "--start-from", "nope"],
        ["runs", "show", "nope"],
        ["runs", "rm", "nope", "--yes"],
    ],
    ids=" ".join,
)
def test_a_run_that_does_not_exist(refused, workspace, args):
    assert refused(*args) == f"no run 'nope' in {workspace}; there is none yet"


def test_a_reward_model_is_no_policy(prlm, workspace):
    from prlm_cli.core.workspace import Workspace

    run = Workspace(workspace).new_run("reward", None)
    run.start("reward", "seed = 0\n")
    run.finish({})

    assert prlm("generate", "--policy", "reward-1", "-w", workspace) == (
        2,
        "",
        "prlm: run 'reward-1' is not a finished policy; see `prlm runs`\n",
    )


@pytest.mark.parametrize("command", ["generate", "train-policy", "train-reward", "pull"])
def test_a_model_that_is_nowhere_names_the_places_tried(prlm, workspace, command):
    model = ["nope"] if command == "pull" else ["--model", "nope"]
    before = contents(workspace)
    result = prlm(command, *model, "--offline", "-w", workspace)
    *_, line = result.stderr.splitlines()

    assert (result.exit_code, result.stdout) == (3, "")
    assert line.startswith("prlm: no model 'nope': tried folder nope, the Hugging Face cache; run without --offline")
    assert contents(workspace) == before
