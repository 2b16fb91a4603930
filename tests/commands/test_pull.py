from __future__ import annotations

import json
from pathlib import Path

import pytest

from prlm_cli.models import loading, packages
from prlm_cli.pipeline.pull import pull


@pytest.fixture
def folders(monkeypatch):
    """Each model resolves to a folder of its name; what was said is a note."""

    def resolve(name, reporter=None):
        if reporter:
            reporter.note(f"fetching {name}")
        return Path("/models") / name

    monkeypatch.setattr(loading, "resolve_model", resolve)


def test_pull_fetches_the_embedded_model_by_default(prlm, folders):
    result = prlm("pull")

    assert (result.exit_code, result.stdout) == (0, "/models/SmolLM2-135M-Instruct\n")
    assert result.stderr == "prlm: fetching SmolLM2-135M-Instruct\n"


def test_pull_prints_the_folder_of_each_model(prlm, folders):
    result = prlm("pull", "-q", "org/a", "org/b")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "/models/org/a\n/models/org/b\n", "")


def test_pull_as_json(prlm, folders):
    assert json.loads(prlm("pull", "org/a", "--json").stdout) == [{"model": "org/a", "path": "/models/org/a"}]


def test_pull_of_a_folder_is_that_folder(prlm, tiny_model):
    assert prlm("pull", tiny_model).stdout == f"{tiny_model}\n"


def test_pull_offline_names_every_place_tried(prlm, monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "cache_folder", lambda: tmp_path / "cache")

    result = prlm("pull", "nobody/nothing", "--offline")

    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        "prlm: no model 'nobody/nothing': tried folder nobody/nothing, the Hugging Face cache; "
        "run without --offline once, or `prlm pull`\n"
    )


def test_pull_from_python_yields_names_and_folders(folders):
    assert list(pull(["org/a"])) == [("org/a", Path("/models/org/a"))]
