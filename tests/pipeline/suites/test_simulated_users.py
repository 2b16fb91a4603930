from __future__ import annotations

import json

import pytest

from prlm_cli.core.errors import DataError
from prlm_cli.core.settings import JudgeSettings
from prlm_cli.pipeline.suites.simulated_users import records
from tests.pipeline.suites.files import personalllm_rows

_FEW = JudgeSettings(users=20, interactions=3)


def _records(tmp_path, rows, seed=0):
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(records(path, _FEW, seed=seed))


def test_histories_and_questions_share_no_prompt(tmp_path):
    found = _records(tmp_path, personalllm_rows())
    seen = {record["text"] for record in found if "query_id" not in record}
    asked = {record["text"] for record in found if "query_id" in record}

    assert seen and asked and not seen & asked


def test_users_want_what_one_of_the_reward_models_wants(tmp_path):
    # alpha 0.01 puts nearly all weight on one model, and these two want the shortest and the longest.
    found = _records(tmp_path, personalllm_rows())
    golds = {record["meta"]["gold"] for record in found if "query_id" in record}

    assert golds == {0, 2}


def test_no_reward_model_outweighs_the_others_by_its_scale(tmp_path):
    scaled = [{k: v * 1000 + 5 if k.endswith("_brief") else v for k, v in row.items()} for row in personalllm_rows()]

    for plain, other in zip(_records(tmp_path, personalllm_rows()), _records(tmp_path, scaled), strict=True):
        assert plain.get("title") == other.get("title")
        assert plain.get("meta", {}).get("values") == pytest.approx(other.get("meta", {}).get("values"))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (personalllm_rows(3), "3 prompts"),
        (
            [*personalllm_rows(4), {k.replace("wordy", "other"): v for k, v in personalllm_rows(1)[0].items()}],
            "not every row has the same reward models",
        ),
    ],
)
def test_a_table_that_will_not_do_is_refused(tmp_path, rows, says):
    with pytest.raises(DataError, match=says):
        _records(tmp_path, rows)


def test_a_score_without_variation_counts_for_nothing(tmp_path):
    flat = [{k: 1.0 if k.endswith(("_brief", "_wordy")) else v for k, v in row.items()} for row in personalllm_rows()]
    values = [record["meta"]["values"] for record in _records(tmp_path, flat) if "query_id" in record]

    assert all(value == [0, 0, 0] for value in values)
