from __future__ import annotations

import sys

import pytest

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.prompts import Task
from prlm_cli.core.registry import Registry
from prlm_cli.retrievers import RETRIEVERS
from prlm_cli.tasks import TASKS

_PARTS = [(registry, name) for registry in (RETRIEVERS, TASKS) for name in registry]


def test_listing_imports_nothing_and_a_look_up_imports_its_part(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    colours = Registry("colour", {"hsv": "colorsys:rgb_to_hsv", "bad": "no_such_module:part"})

    assert list(colours) == ["hsv", "bad"]
    assert "colorsys" not in sys.modules
    assert colours["hsv"](0.0, 0.0, 1.0)[2] == 1.0


def test_an_unknown_name_is_a_settings_error_with_the_nearest_name():
    with pytest.raises(SettingsError, match=r"no retriever 'bm52'; did you mean bm25\?"):
        RETRIEVERS["bm52"]


@pytest.mark.parametrize(("registry", "name"), _PARTS, ids=lambda part: getattr(part, "kind", part))
def test_every_registered_part_can_be_imported_and_says_what_it_is(registry, name):
    part = registry[name]

    assert part.__doc__


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_has_names_for_the_parts_of_its_prompt(name):
    task = TASKS[name]

    assert isinstance(task, Task)
    assert all([task.text_label, task.cue, task.instruction])
    assert ":" not in task.cue + task.text_label
