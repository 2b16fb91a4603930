"""Every recipe is a valid configuration that fits the card that it is for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from prlm_cli.core.configuration import read_recipe, resolve
from prlm_cli.pipeline.plan import plan

_FOLDER = Path(__file__).parents[1] / "recipes"
_RECIPES = sorted(_FOLDER.glob("*.toml"))
_IDS = [path.stem for path in _RECIPES]


@pytest.mark.parametrize("recipe", _RECIPES, ids=_IDS)
def test_a_recipe_opens_with_its_command_and_its_hardware(recipe):
    header = recipe.read_text().split("\n\n")[0]

    assert all(line.startswith("# ") for line in header.splitlines())
    assert f"prlm run recipes/{recipe.name}" in header
    assert "# Hardware: " in header


@pytest.mark.parametrize("recipe", _RECIPES, ids=_IDS)
def test_a_recipe_passes_its_dry_run_and_changes_nothing(prlm, tmp_path, recipe):
    result = prlm("run", recipe, "--dry-run", "--json", "--offline", "-w", tmp_path / "w")

    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["stages"] == read_recipe(recipe)[1]
    assert shown["plan"]["memory"]["cuda"]["peak"] > 0
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("recipe", _RECIPES, ids=_IDS)
def test_a_recipe_fits_the_card_it_names_as_it_is(recipe):
    named = re.search(r"one GPU of (\d+) GB", recipe.read_text())
    if not named:
        assert recipe.stem == "cpu"
        return

    (card,) = plan(read_recipe(recipe)[0], cards=[int(named[1]) * 2**30]).cards

    assert card.settings == []


def test_there_is_a_recipe_for_each_task_and_card():
    wanted = {f"lamp{task}-{size}gb" for task in (4, 5, 7) for size in (8, 12, 16, 24)}

    assert wanted <= set(_IDS)


def test_the_paper_s_recipe_is_the_paper_s_preset():
    config, _ = read_recipe(_FOLDER / "paper.toml")

    assert config == resolve(preset="paper", flags={"model.name": config.model.name})
