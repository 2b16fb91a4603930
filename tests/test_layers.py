"""Who may import whom: from left to right only, as the rows below stand; within a package everything goes.

cli -> commands -> pipeline -> training report -> formats tasks retrievers rewards engines -> metrics models -> core
cli, commands -> ui -> core
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import prlm_cli
from prlm_cli.cli import COMMANDS, module_of

_ROOT = Path(prlm_cli.__file__).parent
_ROWS = [
    ["__main__"],
    ["cli"],
    ["commands"],
    ["pipeline"],
    ["training", "report"],
    ["formats", "tasks", "retrievers", "rewards", "engines"],
    ["metrics", "models"],
    ["core"],
]
_ROW_OF = {part: number for number, row in enumerate(_ROWS) for part in row}
_EXEMPT = {"__init__", "version"}
_HAS_NO_CODE = {"demo"}
_FILES = sorted(_ROOT.rglob("*.py"))


def _part(path: Path) -> str:
    return path.relative_to(_ROOT).with_suffix("").parts[0]


def imported_parts(source: str) -> Iterator[str]:
    """The parts of `prlm_cli` that a source imports, anywhere in it, functions and type checks included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("prlm_cli."))


def is_allowed(importer: str, imported: str) -> bool:
    """Whether one part may import another."""
    if importer == imported or imported == "version" or imported.startswith("__"):
        return True
    if imported == "ui":
        return importer in ("cli", "commands")
    if importer == "ui":
        return imported == "core"
    return _ROW_OF[importer] < _ROW_OF[imported]


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_imports_go_from_left_to_right_only(path):
    if _part(path) in _EXEMPT | _HAS_NO_CODE:
        return
    wrong = [part for part in imported_parts(path.read_text()) if not is_allowed(_part(path), part)]

    assert wrong == []


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_no_import_is_relative_and_only_the_command_line_knows_typer(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]

    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes)
    if _part(path) not in ("cli", "commands", "ui"):
        assert not any(name.split(".")[0] in ("typer", "click", "rich") for name in names)


def test_commands_do_not_import_commands():
    names = {module_of(command) for command in COMMANDS}
    for path in (_ROOT / "commands").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prlm_cli.commands"):
                imported = node.module.split(".")[2:] or [alias.name for alias in node.names]
                assert imported[0] not in names, path.name


def test_every_part_has_a_place_in_the_rows_and_the_demo_is_data():
    parts = {_part(path) for path in _FILES}

    assert parts - _EXEMPT - _HAS_NO_CODE - {"ui"} <= set(_ROW_OF)
    for path in (path for path in _FILES if _part(path) in _HAS_NO_CODE):
        assert path.name == "__init__.py" and not list(imported_parts(path.read_text()))


@pytest.mark.parametrize(
    ("importer", "source", "is_fine"),
    [
        ("core", "from prlm_cli.pipeline.index import index", False),
        ("core", "def f():\n    import prlm_cli.models.loading", False),
        ("core", "if TYPE_CHECKING:\n    from prlm_cli import ui", False),
        ("retrievers", "from prlm_cli.tasks import TASKS", False),
        ("retrievers", "from prlm_cli.retrievers import RETRIEVERS", True),
        ("commands", "from prlm_cli import ui", True),
        ("pipeline", "from prlm_cli import ui", False),
        ("ui", "from prlm_cli.pipeline import index", False),
        ("cli", "from prlm_cli.core.errors import PrlmError", True),
        ("models", "from prlm_cli.metrics import METRICS", False),
        ("training", "from prlm_cli.version import __version__", True),
        ("training", "from prlm_cli import __version__", True),
    ],
)
def test_this_test_sees_a_wrong_edge(importer, source, is_fine):
    assert all(is_allowed(importer, part) for part in imported_parts(source)) == is_fine
