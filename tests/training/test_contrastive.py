from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import PreferencePair, ProfileDocument
from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import ModelSettings, RewardSettings
from prlm_cli.models.causal_network import new_causal_network
from prlm_cli.models.encoder_network import load_encoder_network
from prlm_cli.models.loading import load_base, load_tokenizer
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.models.scorer import Item
from prlm_cli.models.tokenization import TokenizerCodec
from prlm_cli.tasks import TASKS
from prlm_cli.training.callbacks import Diverged
from prlm_cli.training.contrastive import Contrast, groups_of, loss_of, train_contrastive
from tests.models.tiny_encoders import write_cross_encoder
from tests.training.tiny import largest_difference, weights_of

_SCORE = st.floats(-20, 20)


def _profile(*titles):
    return [ProfileDocument(doc_id=t, text=f"About {t}.", title=t) for t in titles]


def pair(n, kind="own>zero_shot", *, user=None, chosen="Parsing trees", rejected="Speech", **fields):
    return PreferencePair(
        query_id=f"q{n}",
        user_id=user or f"u{n}",
        kind=kind,
        text=f"We parse, {n}.",
        profile=_profile(f"Trees {n}"),
        chosen=chosen,
        rejected=rejected,
        **fields,
    )


def swapped(n, kind="own>swapped", **fields):
    return pair(n, kind, swapped_user_id="v", swapped_profile=_profile("Speech"), **fields)


def causal(folder, *, sees_profile=True, **fields):
    settings = ModelSettings(lora_r=4, **fields)
    builder = PromptBuilder(TASKS["titles"], "completion", False, 300, TokenizerCodec(load_tokenizer(folder)))
    network = new_causal_network(load_base(folder, settings), settings, builder, max_answer_tokens=60, seed=0)
    return RewardModel(network, sees_profile=sees_profile)


def train(model, pairs, folder, *, seed=0, **fields):
    figures = []
    train_contrastive(
        model,
        pairs,
        RewardSettings(**{"steps": 2, "batch_size": 2, **fields}),
        seed=seed,
        checkpoints=folder,
        stage=Silent().stage("test"),
        log=figures.append,
    )
    return figures


def _softplus(x):
    return math.log1p(math.exp(-abs(x))) + max(x, 0)


@given(scores=st.tuples(*[_SCORE] * 4), margin=st.floats(0, 3), weight=st.floats(0.1, 3), interaction=st.floats(0, 3))
def test_the_loss_is_the_closed_form(scores, margin, weight, interaction):
    own_chosen, own_rejected, other_chosen, other_rejected = scores
    plain = _softplus(-(own_chosen - own_rejected - margin))
    delta = own_chosen - own_rejected - other_chosen + other_rejected

    found = loss_of(torch.tensor(scores).double(), [Contrast(0, 1, (2, 3), margin, weight)], interaction)
    alone = loss_of(torch.tensor(scores).double(), [Contrast(0, 1, None, margin, weight)], interaction)

    assert float(alone) == pytest.approx(weight * plain, rel=1e-5, abs=1e-6)
    assert float(found) == pytest.approx(weight * (plain + interaction * _softplus(-delta)), rel=1e-5, abs=1e-6)


def test_the_gradient_of_the_loss_is_that_of_finite_differences():
    scores = torch.tensor([0.3, -0.2, 1.1, 0.4, 0.9], dtype=torch.double, requires_grad=True)
    contrasts = [Contrast(0, 1, (2, 3), 0.5, 1.0), Contrast(4, 1, None, 0.0, 2.0)]

    assert torch.autograd.gradcheck(lambda s: loss_of(s, contrasts, 0.7), scores)


def test_a_group_holds_each_input_of_a_query_once(tiny_model):
    pairs = [
        pair(1, rejected="Nothing"),
        swapped(1),
        swapped(1, "target>swapped", chosen="Trees again", margin=0.25),
        pair(2),
    ]
    groups = groups_of(causal(tiny_model), pairs, RewardSettings(margin=0.5))

    assert [len(group.contrasts) for group in groups] == [3, 1]
    # own: parsing, nothing, speech, trees again; other: parsing, speech, trees again
    assert [len(group.inputs) for group in groups] == [7, 2]
    prompts = [len({one.ids for one in group.inputs}) for group in groups]
    assert prompts == [2, 1]
    assert [contrast.margin for contrast in groups[0].contrasts] == [0.5, 0.5, 0.75]
    assert [contrast.crossed is None for contrast in groups[0].contrasts] == [True, False, False]


def test_the_inputs_of_a_contrast_are_those_of_its_pair(tiny_model):
    model, given = causal(tiny_model), swapped(1)
    (group,) = groups_of(model, [given], RewardSettings())
    (contrast,) = group.contrasts

    def encoded(profile, answer):
        return model.encode([Item(given.text, profile, answer)])[0]

    assert group.inputs[contrast.chosen] == encoded(given.profile, given.chosen)
    assert group.inputs[contrast.rejected] == encoded(given.profile, given.rejected)
    assert [group.inputs[n] for n in contrast.crossed] == [
        encoded(given.swapped_profile, given.chosen),
        encoded(given.swapped_profile, given.rejected),
    ]


@pytest.mark.parametrize("fields", [{"interaction": 0.0}, {}], ids=["not asked for", "blind"])
def test_what_has_no_interaction_does_not_compute_it(tiny_model, fields):
    model = causal(tiny_model, sees_profile=bool(fields))
    (group,) = groups_of(model, [swapped(1)], RewardSettings(**fields))

    assert (len(group.inputs), group.contrasts[0].crossed) == (2, None)


@pytest.fixture(scope="module")
def model(tiny_model):
    return causal(tiny_model)


@examples(max_examples=30)
@given(
    users=st.lists(st.sampled_from("abc"), min_size=1, max_size=8),
    kind_weight=st.floats(0.1, 4),
    user_weights=st.sampled_from(["equal-pairs", "equal-users"]),
)
def test_the_weights_of_a_query_come_to_one_on_average(model, users, kind_weight, user_weights):
    pairs = [pair(n // 2, f"k{n % 3}", user=user, chosen=f"Parsing {n}") for n, user in enumerate(users)]
    settings = RewardSettings(kind_weights={"k1": kind_weight}, user_weights=user_weights)

    groups = groups_of(model, pairs, settings)

    total = sum(contrast.weight for group in groups for contrast in group.contrasts)
    assert total == pytest.approx(len(groups))


def _weight_by(groups, pairs, name):
    found = {}
    contrasts = [contrast for group in groups for contrast in group.contrasts]
    for row, contrast in zip(pairs, contrasts, strict=True):
        found[getattr(row, name)] = found.get(getattr(row, name), 0) + contrast.weight
    return found


def test_kinds_and_users_weigh_as_set(model):
    pairs = [pair(n, "a" if n % 2 else "b", user="many" if n < 4 else "few") for n in range(6)]

    by_kind = _weight_by(groups_of(model, pairs, RewardSettings(kind_weights={"a": 3.0})), pairs, "kind")
    by_pair = _weight_by(groups_of(model, pairs, RewardSettings()), pairs, "user_id")
    by_user = _weight_by(groups_of(model, pairs, RewardSettings(user_weights="equal-users")), pairs, "user_id")

    assert by_kind["a"] == pytest.approx(3 * by_kind["b"])
    assert by_pair["many"] == pytest.approx(2 * by_pair["few"])
    assert by_user["many"] == pytest.approx(by_user["few"])


def test_a_kind_without_a_weight_is_left_out_and_some_kind_must_have_one(model):
    pairs = [pair(1, "a"), pair(2, "b")]

    (group,) = groups_of(model, pairs, RewardSettings(kind_weights={"a": 0.0}))
    assert len(group.contrasts) == 1
    with pytest.raises(SettingsError, match=r"reward.kind_weights leaves no pair a weight"):
        groups_of(model, pairs, RewardSettings(kind_weights={"a": 0.0, "b": 0.0}))


def test_the_first_loss_is_that_of_the_scores_before_training(tiny_model, tmp_path):
    model, pairs = causal(tiny_model), [swapped(1), pair(2)]
    groups = groups_of(model, pairs, RewardSettings())
    expected = [float(loss_of(torch.tensor(model.scores_of(group.inputs)), group.contrasts, 1.0)) for group in groups]

    figures = train(model, pairs, tmp_path, steps=1)

    assert figures[0]["loss"] == pytest.approx(sum(expected) / 2, abs=1e-4)
    assert 0 <= figures[0]["accuracy"] <= 1


@pytest.mark.parametrize("settings", [{}, {"precision": "bf16"}, {"qlora": True}], ids=["fp32", "bf16", "4 bit"])
def test_the_better_answers_are_learned_by_adapter_and_head_alone(tiny_model, tmp_path, settings):
    model = causal(tiny_model, **settings)
    before, base = weights_of(model.network), weights_of(model.network, trained=False)

    figures = train(model, [swapped(n) for n in range(4)], tmp_path, steps=25, learning_rate=1e-2, warmup=0.0)

    scores = model.scores([Item("We parse, 9.", _profile("Trees 9"), answer) for answer in ("Parsing trees", "Speech")])
    assert scores[0] > scores[1]
    assert (figures[-1]["accuracy"], figures[-1]["loss"] < figures[0]["loss"]) == (1.0, True)
    after = weights_of(model.network)
    assert all("lora_" in name or name == "head.weight" for name in after)
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    assert not torch.equal(before["head.weight"], after["head.weight"])
    assert (
        largest_difference(
            {n: w for n, w in before.items() if "lora_B" in n}, {n: w for n, w in after.items() if "lora_B" in n}
        )
        > 0
    )
    assert largest_difference(base, weights_of(model.network, trained=False)) == 0


def test_micro_batches_train_like_whole_steps(tiny_model, tmp_path):
    pairs = [swapped(n) if n % 2 else pair(n, chosen="Parsing " * (n + 1)) for n in range(4)]
    found = []
    for micro_batch in (4, 1):
        model = causal(tiny_model)
        train(model, pairs, tmp_path / str(micro_batch), batch_size=4, micro_batch=micro_batch, learning_rate=1e-2)
        found.append(weights_of(model.network))

    assert largest_difference(*found) < 1e-4


def test_steps_come_from_the_epochs_where_none_are_set(tiny_model, tmp_path):
    figures = train(causal(tiny_model), [pair(n) for n in range(5)], tmp_path, steps=None, epochs=1.5, batch_size=2)

    assert len(figures) == 4  # 7.5 queries, two a step


def test_the_same_seed_trains_the_same_and_another_one_another(tiny_model, tmp_path):
    pairs, losses = [pair(n, chosen="Parsing " * n) for n in range(6)], []
    for n, seed in enumerate((0, 0, 1)):
        figures = train(causal(tiny_model), pairs, tmp_path / str(n), seed=seed, steps=3)
        losses.append([line["loss"] for line in figures])

    assert losses[0] == losses[1] != losses[2]


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", ["adapter", "encoder"])
def test_a_killed_training_goes_on_to_the_step_and_ends_like_an_unbroken_one(tiny_model, tmp_path, kind):
    folder = write_cross_encoder(tmp_path / "encoder")

    def new():
        if kind == "adapter":
            return causal(tiny_model)
        return RewardModel(load_encoder_network(folder, max_tokens=64, max_answer_tokens=8, seed=0), sees_profile=True)

    def start(model, place, log):
        settings = RewardSettings(steps=4, batch_size=2, learning_rate=1e-3)
        train_contrastive(model, pairs, settings, seed=0, checkpoints=place, stage=Silent().stage("test"), log=log)

    def kill(line):
        if line["step"] == 3:
            raise Killed

    pairs = [swapped(n) for n in range(5)]
    unbroken, killed, lines = new(), new(), []
    start(unbroken, tmp_path / "a", lambda line: None)
    with pytest.raises(Killed):
        start(killed, tmp_path / "b", kill)
    resumed = new()
    start(resumed, tmp_path / "b", lines.append)

    assert [line["step"] for line in lines] == [3, 4]
    assert largest_difference(weights_of(unbroken.network), weights_of(resumed.network)) == 0


def test_a_checkpoint_holds_what_is_trained_only(tiny_model, tmp_path):
    train(causal(tiny_model), [pair(1), pair(2)], tmp_path, steps=1)

    names = {path.name for path in (tmp_path / "checkpoint-1").iterdir()}
    assert {"adapter_model.safetensors", "score_head.safetensors", "manifest.json"} <= names
    assert "model.safetensors" not in names


def test_a_finished_training_that_is_started_again_changes_nothing(tiny_model, tmp_path):
    first, again = causal(tiny_model), causal(tiny_model)
    train(first, [pair(1), pair(2)], tmp_path)

    assert train(again, [pair(1), pair(2)], tmp_path) == []
    assert largest_difference(weights_of(first.network), weights_of(again.network)) == 0


def test_a_loss_that_is_not_finite_stops_the_training(tiny_model, tmp_path):
    model = causal(tiny_model)
    with torch.no_grad():
        model.network.head.weight[0, 0] = math.nan

    with pytest.raises(Diverged, match=r"loss is not finite at step 1; lower the learning rate"):
        train(model, [pair(1), pair(2)], tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_nothing_is_printed(tiny_model, tmp_path, capfd):
    train(causal(tiny_model), [pair(1), pair(2)], tmp_path)

    assert capfd.readouterr() == ("", "")
