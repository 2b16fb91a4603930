from __future__ import annotations

import pytest

from prlm_cli.core.configuration import resolve
from prlm_cli.core.records import PreferencePair, ProfileDocument
from prlm_cli.core.workspace import Workspace
from prlm_cli.models.scorer import Item
from prlm_cli.pipeline.reward_models import load_reward_model
from prlm_cli.pipeline.suites.run import run_suite
from prlm_cli.pipeline.train_reward import train_reward
from tests.pipeline.small import Notes, small
from tests.pipeline.suites.files import realpref_rows


@pytest.fixture
def workspace(tmp_path, tiny_model):
    """A workspace with a reward model, trained on a few pairs."""
    found = Workspace(tmp_path / "workspace")
    config = small(tiny_model, "reward.twin=false", "reward.learning_rate=1e-2")
    pairs = [
        PreferencePair(
            query_id=f"{user}-{n}",
            user_id=user,
            kind="own>zero_shot",
            text=f"Plan, {n}.",
            profile=[ProfileDocument(doc_id="d", text="About fish.", title=f"Fish {n}")],
            chosen=f"Fish {n}",
            rejected="Beans",
        )
        for user in ("ada", "ben", "cem")
        for n in range(3)
    ]
    train_reward(found, config, pairs=pairs, name="liked")
    return found


def test_a_reward_model_judges_by_its_scores_without_a_bias_of_place(workspace, tiny_model, write_jsonl):
    rows = [row for row in realpref_rows() if row.get("answers")]
    layers = [f"model.name={tiny_model}", "generation.max_new_tokens=4", "eval.bootstrap=100"]
    layers += ["judge.by=['reward-model:liked', 'reward-model']"]
    path = write_jsonl(rows)

    result = run_suite(workspace, "realpref", path, lambda base: resolve(base=base, assignments=layers), policy="none")
    found = {figure.name: figure.value for figure in result.figures if figure.of == "given, by reward-model:liked"}
    model = load_reward_model(workspace.finished_run("liked", "reward"), Notes())
    (record,) = [record for record in result.records if record.label]
    a, b = model.scores([Item(rows[0]["question"], (), answer) for answer in rows[0]["answers"]])

    assert (found["first_place"], found["consistent"], found["unread"]) == (0.5, 1, 0)
    assert a != b and found["win"] + found["loss"] == 1
    assert record.judge == "reward-model:liked"  # the newest is the same one, asked once
