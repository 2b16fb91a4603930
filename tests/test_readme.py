"""The README, the recipes and the changelog stay true to the program."""

import re
from pathlib import Path

import pytest

from prlm_cli.cli import COMMANDS
from prlm_cli.commands.flags import RETRIEVAL_FLAGS
from prlm_cli.core.configuration import resolve

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PACKAGES = [path.parent.name for path in (ROOT / "prlm_cli").glob("*/__init__.py")]


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_and_changelog_name_every_command(command):
    assert f"`prlm {command}" in README
    assert f"`prlm {command}`" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("package", PACKAGES)
def test_readme_draws_every_package(package):
    assert re.search(rf"^  {package}/ ", README, re.MULTILINE)


def test_readme_opens_with_the_two_commands_that_must_work():
    first_block = README.split("```")[1].strip().splitlines()
    assert first_block == ["pip install -e . && prlm demo", "pip install -e '.[test]' && pytest"]


def test_readme_holds_no_unfilled_place():
    assert "<<" not in README


_OF_OTHER_PROGRAMS = ("--help", "--check", "--nproc-per-node")


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))))
def test_every_flag_that_the_readme_names_exists(flag):
    sources = "".join(path.read_text() for path in (ROOT / "prlm_cli").rglob("*.py"))
    name = flag.removeprefix("--").replace("-", "_")
    is_derived = re.search(rf'\b{name}="', sources) or name in RETRIEVAL_FLAGS
    assert f'"{flag}"' in sources or is_derived or flag in _OF_OTHER_PROGRAMS


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_is_a_valid_configuration(recipe):
    assert resolve(config_file=recipe)
    assert recipe.read_text().startswith("# ")


@pytest.mark.parametrize("settings", sorted((ROOT / "prlm_cli" / "demo").glob("*.toml")), ids=lambda path: path.stem)
def test_the_demo_settings_are_valid_and_reason(settings):
    assert resolve(config_file=settings).prompt.reasoning == "on"
