"""How rollouts are drawn, with random numbers of their own."""

from __future__ import annotations

import pytest

from prlm_cli.core.errors import SettingsError
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training import grpo
from tests.training.grpo_runs import policy_trainer, train


def _rollouts(trainer, prompts, monkeypatch, process=0):
    monkeypatch.setattr(type(trainer.accelerator), "process_index", process)
    with quiet_libraries():
        return trainer._generate_single_turn([prompt for prompt in prompts for _ in range(4)], None, {}, 4)[0]


def test_any_number_of_processes_draws_the_same_rollouts(tiny, tmp_path, monkeypatch):
    prompts = [[65, 66, 67], [70, 71, 72, 73, 74]]
    one, *two = (policy_trainer(*tiny, tmp_path, draws_by_row=True) for _ in range(3))

    together = _rollouts(one, prompts, monkeypatch)
    apart = [_rollouts(two[n], [prompts[n]], monkeypatch, process=n) for n in (0, 1)]

    assert len({tuple(row) for row in together}) > 2
    assert apart == [together[:4], together[4:]]


def test_rollouts_drawn_in_parts_are_those_drawn_at_once(tiny, tmp_path, monkeypatch):
    prompts = [[65, 66, 67], [70, 71, 72, 73, 74]]
    at_once, in_parts = (policy_trainer(*tiny, tmp_path, draws_by_row=True) for _ in range(2))
    in_parts._rollouts.most = 3

    assert _rollouts(in_parts, prompts, monkeypatch) == _rollouts(at_once, prompts, monkeypatch)


def test_a_second_draw_of_a_step_is_another_and_a_step_begun_anew_draws_the_same(tiny, tmp_path):
    trainer = policy_trainer(*tiny, tmp_path, draws_by_row=True)

    def drawn(step, number):
        trainer.state.global_step = step
        with quiet_libraries():
            return trainer._sampled([[65, 66, 67]] * 4, 4, 0, number)

    first, second, of_another_step = drawn(0, 0), drawn(0, 1), drawn(1, 0)

    assert first != second
    assert of_another_step not in (first, second)
    assert drawn(0, 0) == first


def test_rollouts_by_rows_where_the_prompt_cannot_be_shared_are_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo.shared_prefix, "why_not", lambda model: "it is stock")

    with pytest.raises(SettingsError, match=r"policy\.sampling=rows cannot be: it is stock; use auto"):
        train(*tiny, tmp_path, sampling="rows")
