from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, local
from unittest import mock

import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training import dynamic_sampling
from prlm_cli.training.dynamic_sampling import Drawn, Resampling, varies
from tests.training.grpo_runs import Figures, lengths, policy_trainer, train
from tests.training.tiny import largest_difference, trainable, weights_of

_NAN = math.nan


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([[1.0, 0.0], [1.0, 0.0]], False),
        ([[1.0, 0.0], [1.0, 0.1]], True),
        ([[2.0, 0.0], [1.0, 0.0]], True),
        ([[1.0, _NAN], [1.0, _NAN]], False),
        ([[1.0, _NAN], [1.0, 0.5]], True),
        ([[0.1 + 0.2, 0.0], [0.3, 0.0]], False),
    ],
    ids=["alike", "second differs", "first differs", "does not apply", "applies to one", "rounding"],
)
def test_a_group_varies_where_a_reward_does(rewards, expected):
    other = [[0.0, 5.0], [0.0, 5.0]]

    assert varies(torch.tensor(rewards + other), 2).tolist() == [expected, False]


class _World:
    """Prompts that never vary, and others; what was drawn is kept."""

    def __init__(self, dull):
        self.dull, self.asked = dull, []

    def __call__(self, prompts, first, number):
        self.asked.append(prompts[::2])
        rewards = [[0.0 if prompt in self.dull else float(n % 2)] for n, prompt in enumerate(prompts)]
        ids = [[number, first + n] for n in range(len(prompts))]
        return Drawn(list(prompts), ids, torch.tensor(rewards))


_PROMPTS = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=8, unique=True)


@examples(max_examples=60)
@given(prompts=_PROMPTS, dull=st.sets(st.sampled_from("abcdefgh")), size=st.integers(1, 4), rounds=st.integers(1, 3))
def test_what_does_not_vary_is_replaced_by_prompts_that_were_not_tried(prompts, dull, size, rounds):
    asked, world = [p for p in prompts[:size] for _ in range(2)], _World(dull)

    found, tried = Resampling(prompts, 2, rounds, seed=1)(asked, 7, world)

    others = [prompt for drawn in world.asked[1:] for prompt in drawn]
    assert (world.asked[0], len(others)) == (asked[::2], tried)
    assert len({*others, *asked}) == len(others) + len(asked) // 2  # each was tried once
    assert len(world.asked) - 1 <= rounds
    groups = found.prompts[::2]
    assert [p for p, first in zip(groups, asked[::2], strict=True) if first not in dull] == [
        p for p in asked[::2] if p not in dull
    ]
    is_spent = len(others) + len(asked) // 2 == len(prompts)
    assert not dull & set(groups) or len(world.asked) - 1 == rounds or is_spent
    again = Resampling(reversed(prompts), 2, rounds, seed=1)(asked, 7, _World(dull))
    assert (again[0].prompts, again[0].completion_ids) == (found.prompts, found.completion_ids)


def test_a_group_comes_with_the_completions_and_rewards_that_are_its_own():
    world = _World({"a"})

    found, tried = Resampling("abc", 2, 1, seed=0)(list("aabb"), 0, world)

    assert (found.prompts, tried) == (["c", "c", "b", "b"], 1)
    assert found.completion_ids == [[1, 0], [1, 1], [0, 2], [0, 3]]
    assert found.rewards.tolist() == [[0.0], [1.0], [0.0], [1.0]]


def test_other_steps_seeds_and_prompts_try_other_prompts():
    prompts, dull = [f"q{n:02d}" for n in range(40)], {"q00", "q01"}

    def others(seed, step, asked):
        world = _World(dull)
        Resampling(prompts, 2, 1, seed)([asked] * 2, step, world)
        return world.asked[1]

    assert len({*others(0, 0, "q00"), *others(0, 1, "q00"), *others(1, 0, "q00"), *others(0, 0, "q01")}) > 2


class _Processes:
    """Several, as threads, which say to each other what they have."""

    def __init__(self, number):
        self._said = [None] * number
        self._all_said = Barrier(number)
        self._rank = local()

    def run(self, work, shares):
        def one(rank):
            self._rank.value = rank
            return work(shares[rank])

        with ThreadPoolExecutor(len(shares)) as threads:
            return list(threads.map(one, range(len(shares))))

    def joined(self, own):
        rank = self._rank.value
        self._said[rank] = list(own)
        self._all_said.wait(10)
        said = list(self._said)
        self._all_said.wait(10)
        return [item for part in said for item in part], sum(map(len, said[:rank]))


@examples(max_examples=40)
@given(
    prompts=_PROMPTS, dull=st.sets(st.sampled_from("abcdefgh")), rounds=st.integers(1, 3), processes=st.integers(1, 4)
)
def test_several_processes_have_the_groups_that_one_would_have(prompts, dull, rounds, processes):
    asked = [p for p in prompts[: len(prompts) // processes * processes] for _ in range(2)]
    assume(asked)
    each, resampling = len(asked) // processes, Resampling(prompts, 2, rounds, seed=1)
    alone, tried_alone = resampling(asked, 7, _World(dull))
    together = _Processes(processes)

    with mock.patch.object(dynamic_sampling, "joined", together.joined):
        shares = [asked[n * each : (n + 1) * each] for n in range(processes)]
        found = together.run(lambda share: resampling(share, 7, _World(dull)), shares)

    assert [prompt for drawn, _ in found for prompt in drawn.prompts] == alone.prompts
    assert [ids for drawn, _ in found for ids in drawn.completion_ids] == alone.completion_ids
    assert torch.cat([drawn.rewards for drawn, _ in found]).equal(alone.rewards)
    assert sum(tried for _, tried in found) == tried_alone


def _second_alike(*, completions, queries):
    """No spread for the query q2."""
    values = lengths(completions=completions, queries=queries)
    return [1.0 if query.query_id == "q2" else value for query, value in zip(queries, values, strict=True)]


def _gradient(trainer, batch):
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.zero_grad()
    trainer._compute_loss(trainer.model, batch).backward()
    return {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.requires_grad and p.grad is not None}


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo", "gspo"])
def test_a_step_without_its_ties_is_that_of_the_other_groups_alone(tiny, tmp_path, loss_type):
    trainer = policy_trainer(
        *tiny, tmp_path, rewards=[_second_alike], prompts_per_step=3, loss_type=loss_type, beta=0.1, entropy_coef=0.1
    )
    for parameter in (p for p in trainer.model.parameters() if p.requires_grad):
        torch.nn.init.normal_(parameter, std=0.1)  # away from the reference
    scored = []
    for trainer._skips in (False, True):
        torch.manual_seed(5)
        with quiet_libraries():
            rows = [{"prompt": f"q{n}"} for n in (1, 2, 3) for _ in range(4)]
            scored.append(trainer._generate_and_score_completions(rows))
    kept, skipped = scored
    others = [0, 1, 2, 3, 8, 9, 10, 11]
    alone = {name: value[others] if value.ndim else value for name, value in kept.items()}
    alone["num_items_in_batch"] = kept["completion_mask"][others].sum()

    found, expected = _gradient(trainer, skipped), _gradient(trainer, alone)

    assert trainer._metrics["train"]["zero_variance/skipped"] == [1.0]
    assert largest_difference(found, expected) < 1e-7
    assert largest_difference(found, _gradient(trainer, kept)) > 1e-4


@pytest.mark.parametrize("fields", [{}, {"beta": 0.1}, {"entropy_coef": 0.1}], ids=["plain", "KL term", "entropy"])
def test_a_step_of_ties_alone_trains_nothing(tiny, tmp_path, fields):
    (model, tokenizer), figures = tiny, Figures()
    torch.nn.init.normal_(next(p for n, p in model.named_parameters() if "lora_B" in n), std=0.1)
    before = weights_of(model)

    train(
        model, tokenizer, tmp_path, lambda completions, queries: [1.0] * len(completions),
        callbacks=[figures], zero_variance="skip", **fields,
    )  # fmt: skip

    assert [line["zero_variance/skipped"] for line in figures.lines[:2]] == [2.0, 2.0]
    assert [line["grad_norm"] for line in figures.lines[:2]] == [0.0, 0.0]
    assert largest_difference(before, weights_of(model)) == 0


def test_prompts_without_variance_give_way_to_others_and_both_are_counted(tiny, tmp_path):
    figures, scored = Figures(), []

    def some_alike(*, completions, queries):
        scored.append([query.query_id for query in queries[::4]])
        return [1.0 if query.query_id in ("q0", "q1") else float(n) for n, query in enumerate(queries)]

    train(*tiny, tmp_path, some_alike, callbacks=[figures], steps=3, zero_variance="resample")

    lines = [line for line in figures.lines if "loss" in line]
    assert {q for drawn in scored for q in drawn} == {"q0", "q1", "q2", "q3"}
    assert sum(line["zero_variance/resampled"] for line in lines) == sum(map(len, scored)) - 3 * 2
    assert [line["zero_variance/skipped"] for line in lines] == [0.0] * 3
    assert [line["frac_reward_zero_std"] for line in lines] == [0.0] * 3


def test_where_every_group_varies_nothing_is_other_than_without_resampling(tiny_model, tmp_path):
    runs = []
    for choice in ("keep", "skip", "resample"):
        model, tokenizer = trainable(tiny_model)
        figures = Figures()
        train(
            model, tokenizer, tmp_path / choice, lambda completions, queries: list(map(float, range(len(completions)))),
            callbacks=[figures], zero_variance=choice,
        )  # fmt: skip
        runs.append((weights_of(model), figures.lines[0]["reward"], figures.lines[0]["completions/mean_length"]))

    kept, *others = runs
    for weights, reward, length in others:
        assert largest_difference(weights, kept[0]) == 0
        assert (reward, length) == kept[1:]


def test_a_resampled_batch_is_of_the_prompts_that_its_completions_answer(tiny, tmp_path):
    trainer = policy_trainer(
        *tiny, tmp_path, rewards=[_second_alike], skips=True,
        resampling=Resampling([f"q{n}" for n in range(4)], 4, 3, seed=0), prompts_per_step=2,
    )  # fmt: skip

    with quiet_libraries():
        scored = trainer._generate_and_score_completions([{"prompt": q} for q in ("q1", "q2") for _ in range(4)])

    prompts = [ids[mask.bool()].tolist() for ids, mask in zip(scored["prompt_ids"], scored["prompt_mask"], strict=True)]
    assert prompts[:4] == [[66] * 4] * 4
    assert prompts[4] in ([65] * 3, [68] * 6)  # q0 or q3
    assert trainer._metrics["train"]["zero_variance/resampled"] == [1.0]
    rewards = trainer._metrics["train"]["rewards/measure0/mean"]
    completions = trainer.processing_class.batch_decode(scored["completion_ids"], skip_special_tokens=True)
    assert rewards == [pytest.approx(sum(lengths(completions=completions, queries=[])) / 8)]
