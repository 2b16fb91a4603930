from __future__ import annotations

import pytest

from tests.training.tiny import trainable


@pytest.fixture
def tiny(tiny_model):
    return trainable(tiny_model)
