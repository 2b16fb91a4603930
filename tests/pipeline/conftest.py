from __future__ import annotations

import pytest

from prlm_cli.core.settings import resolve
from tests.pipeline.small import asked, indexed


@pytest.fixture
def workspace(tmp_path):
    return indexed(tmp_path)


@pytest.fixture
def queries(workspace):
    with workspace.open_store() as store:
        return asked(store, resolve())
