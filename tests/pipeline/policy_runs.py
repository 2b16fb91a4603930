"""Trainings of tiny policies that tests go through, stop, or replace."""

from __future__ import annotations

import pytest

from prlm_cli.pipeline import train_policy as module
from prlm_cli.pipeline.train_policy import train_policy
from tests.pipeline.small import small

NO_REWARD_MODEL = ["no reward model yet: going on without (run `prlm train-reward` to have one)"]


def plain(model, *assignments):
    """Settings of few steps, without a warm start and without reasoning."""
    return small(model, "warm_start.kind=none", "prompt.reasoning=off", *assignments)


def interrupt(workspace, config, monkeypatch, **options):
    """Trains a policy until the second step is in the log."""
    append = module.Run.append_log

    def killed(run, figures):
        append(run, figures)
        if figures["step"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.Run, "append_log", killed)
        with pytest.raises(KeyboardInterrupt):
            train_policy(workspace, config, **options)
