from __future__ import annotations

import re

import pytest
from msgspec import structs

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.records import Generation, PreferencePair, ProfileDocument
from prlm_cli.core.workspace import Workspace
from prlm_cli.models.reward_model import Encoded, RewardModel
from prlm_cli.pipeline import score as module
from prlm_cli.pipeline.policies import load_policy
from prlm_cli.pipeline.reward_models import load_reward_model
from prlm_cli.pipeline.score import score
from prlm_cli.pipeline.score_cache import ScoreCache
from prlm_cli.pipeline.train_reward import train_reward
from prlm_cli.rewards import RewardContext
from prlm_cli.rewards.personalization import Personalization
from tests.models.tiny_encoders import write_cross_encoder
from tests.pipeline.small import Notes, small


def _profile(*titles):
    return [ProfileDocument(doc_id=t, text=f"About {t}.", title=t) for t in titles]


def _pairs():
    return [
        PreferencePair(
            query_id=f"{user}-{n}",
            user_id=user,
            kind="own>zero_shot",
            text=f"We parse, {n}.",
            profile=_profile(f"Trees {n}"),
            chosen=f"Parsing {n}",
            rejected="Speech",
        )
        for user in ("ada", "ben", "cem")
        for n in range(3)
    ]


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """A workspace with a reward model of either kind; the adapter is the newest."""
    folder = tmp_path_factory.mktemp("scored")
    workspace = Workspace(folder / "workspace")
    encoder = write_cross_encoder(folder / "encoder")
    few = ("reward.twin=false", "reward.learning_rate=1e-2")
    train_reward(workspace, small(tiny_model, *few, f"reward.model={encoder}"), pairs=_pairs(), name="encoder")
    train_reward(workspace, small(tiny_model, *few), pairs=_pairs(), name="adapter")
    return workspace


@pytest.fixture
def generations(tiny_model):
    builder = load_policy(small(tiny_model, "prompt.reasoning=on"), reporter=Notes()).builder
    written = ["a</think>Title: Trees", "never closed", "b</think>Title: Bark and more of it", "c</think>Title: Trees"]
    return [
        Generation(
            query_id=f"q{n}-{m}",
            user_id="ada",
            text=f"We look at trees, {n}.",
            profile=_profile("Trees", "Bark")[:n],
            retriever="bm25",
            completion=completion,
            reasoning=None,
            answer=builder.parse(completion).answer,
            policy="p",
            seed=0,
        )
        for n in range(3)
        for m, completion in enumerate(written)
    ]


@pytest.mark.parametrize("name", ["adapter", "encoder"])
def test_scores_are_the_rewards_of_the_training(tiny_model, trained, generations, name):
    builder = load_policy(small(tiny_model, "prompt.reasoning=on"), reporter=Notes()).builder
    model = load_reward_model(trained.run(name), Notes())
    in_training = Personalization(RewardContext(builder, model))(
        completions=[g.completion for g in generations], queries=generations
    )

    for _ in ("fresh", "from the cache"):
        scored = list(score(trained, generations, reward_model=name))
        rewards = [generation.reward for generation in scored]

        # What has no answer has no reward; in training that is 0.
        assert [reward or 0.0 for reward in rewards] == pytest.approx(in_training, abs=1e-5)
        assert [reward is None for reward in rewards] == [g.answer is None for g in generations]
        assert [structs.replace(generation, reward=None) for generation in scored] == generations
    assert len({round(reward, 9) for reward in in_training}) > 3


def test_the_newest_model_is_used_where_none_is_named(trained, generations):
    assert list(score(trained, generations)) == list(score(trained, generations, reward_model="adapter"))


def test_what_was_scored_before_is_not_scored_again(trained, generations, monkeypatch):
    first = list(score(trained, generations, reward_model="adapter"))
    asked, scores_of = [], RewardModel.scores_of
    monkeypatch.setattr(
        RewardModel, "scores_of", lambda model, inputs: (asked.append(len(inputs)), scores_of(model, inputs))[1]
    )
    new = structs.replace(generations[0], answer="Something new")

    again = list(score(trained, [*generations, new, new], reward_model="adapter"))

    assert again[:-2] == first
    assert again[-2].reward == again[-1].reward
    assert sum(asked) == 1


def test_another_model_has_other_scores(trained, generations):
    by_model = [[g.reward for g in score(trained, generations, reward_model=name)] for name in ("adapter", "encoder")]

    assert by_model[0] != by_model[1]


def test_the_cache_holds_no_text(trained, generations):
    secret = [
        structs.replace(g, text="CANARY", answer=g.answer and "CANARY", profile=_profile("CANARY")) for g in generations
    ]
    list(score(trained, secret))

    files = list(trained.cache.glob("scores-*"))
    assert files
    assert not any(re.search(b"CANARY|Trees", path.read_bytes()) for path in files)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_damaged_cache_is_made_anew(trained, generations):
    first = list(score(trained, generations))
    for path in trained.cache.glob("scores-*"):
        path.write_bytes(b"not a database" * 100)

    assert [g.reward for g in score(trained, generations)] == pytest.approx([g.reward for g in first], abs=1e-5)


def test_a_cache_of_many_inputs_knows_them_all(tmp_path):
    inputs = [Encoded((n,), (n, n + 1)) for n in range(1300)]
    with ScoreCache(tmp_path / "cache" / "scores.sqlite") as cache:
        cache.keep({encoded: float(encoded[0][0]) for encoded in inputs})
        found = cache.known([*inputs, Encoded((1, 1), (2,)), Encoded((1,), (1, 2, 2)), Encoded((1,), (1, 2), 0.5)])

    assert found == {encoded: float(encoded[0][0]) for encoded in inputs}


def test_inputs_that_are_divided_elsewhere_are_not_taken_for_each_other(tmp_path):
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        cache.keep({Encoded((1, 2), (3,)): 0.5})

        assert cache.known([Encoded((1,), (2, 3)), Encoded((1, 2, 3), ())]) == {}


def test_a_cache_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "scores.sqlite").mkdir()

    with pytest.raises(StorageError, match=r"scores.sqlite"):
        ScoreCache(tmp_path / "scores.sqlite")


def test_results_leave_while_more_is_read(trained, generations, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_WINDOW", 2)
    monkeypatch.setattr(module, "_WINDOW", 3)
    read = []

    def stream():
        for generation in generations:
            read.append(generation.query_id)
            yield generation

    scored = score(trained, stream())
    assert next(scored).query_id == generations[0].query_id
    assert len(read) == 2
    assert [g.query_id for g in scored] == [g.query_id for g in generations[1:]]


def test_nothing_to_score_needs_no_model_to_be_loaded(trained, monkeypatch):
    monkeypatch.setattr(module, "load_reward_model", None)

    assert list(score(trained, [])) == []


def test_without_a_reward_model_there_is_an_error(tmp_path, generations):
    with pytest.raises(DataError, match=r"no reward model in .*; run `prlm train-reward` first"):
        next(score(Workspace(tmp_path / "w"), generations))
    with pytest.raises(DataError, match=r"no run 'nope'"):
        next(score(Workspace(tmp_path / "w"), generations, reward_model="nope"))


def test_a_damaged_reward_model_is_an_error(tiny_model, tmp_path, generations):
    workspace = Workspace(tmp_path / "w")
    run = train_reward(workspace, small(tiny_model, "reward.twin=false"), pairs=_pairs())
    (run.adapter / "score_head.safetensors").write_bytes(b"")

    with pytest.raises(StorageError, match=r"holds no head of a reward model"):
        next(score(workspace, generations))


def test_the_command_scores_a_stream(prlm, trained, generations):
    lines = b"".join(map(jsonl.encode, generations)).decode()
    result = prlm("score", "-", "-w", trained.folder, input=lines)

    assert (result.exit_code, result.stderr) == (0, "")
    assert [record.get("reward") for record in result.records] == [g.reward for g in score(trained, generations)]
    assert [record["query_id"] for record in result.records] == [g.query_id for g in generations]


def test_the_command_needs_an_input_and_generations(prlm, trained, tmp_path):
    assert prlm("score", "-w", trained.folder) == (
        2,
        "",
        "prlm: score has no INPUT; name a JSONL file of generations, or - for standard input\n",
    )
    (tmp_path / "queries.jsonl").write_text('{"query_id": "q", "user_id": "u", "text": "t"}\n')
    result = prlm("score", tmp_path / "queries.jsonl", "-w", trained.folder)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "queries.jsonl:1: no field 'answer'" in result.stderr
