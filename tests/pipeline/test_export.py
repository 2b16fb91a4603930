from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from prlm_cli.core.errors import DataError, RefusedError
from prlm_cli.core.reporting import Silent
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline import export as module
from prlm_cli.pipeline.export import FACTS, export
from prlm_cli.pipeline.policies import choose_policy
from prlm_cli.pipeline.train_policy import train_policy
from tests.conftest import contents
from tests.pipeline.small import indexed, small

_IDS = torch.tensor([[65, 66, 67, 68, 70, 71]])


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    workspace = indexed(tmp_path_factory.mktemp("trained"))
    config = small(tiny_model, "warm_start.kind=answers", "policy.reward_model=none", "policy.eval_queries=0")
    run = train_policy(workspace, config, name="mine")
    _enlarge(run.adapter)
    return workspace


def _enlarge(adapter):
    """Weights that matter: those of so short a training hardly move the logits."""
    path = adapter / "adapter_model.safetensors"
    torch.manual_seed(0)
    save_file({name: torch.randn_like(weight) * 0.2 for name, weight in load_file(path).items()}, path)


@torch.no_grad()
def _logits(model):
    return model.eval()(input_ids=_IDS).logits


def _own(workspace):
    return choose_policy(workspace, "mine", lambda base: base, Silent()).load(Silent())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # in peft
def test_an_adapter_loads_in_plain_peft_and_answers_as_the_policy_does(trained, tiny_model, tmp_path):
    done = export(trained, "mine", tmp_path / "out")

    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path / "out")
    assert torch.allclose(_logits(plain), _logits(_own(trained).model), atol=1e-5)
    assert (done.is_merged, done.largest_difference) == (False, None)


def test_merged_weights_load_in_plain_transformers_and_answer_as_the_policy_does(trained, tiny_model, tmp_path):
    done = export(trained, "mine", tmp_path / "out", merge=True)

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert torch.allclose(_logits(merged), _logits(_own(trained).model), atol=1e-4)
    assert not torch.allclose(_logits(merged), _logits(base), atol=1e-2)
    assert done.largest_difference is not None and done.largest_difference < 1e-3
    assert not (tmp_path / "out" / "adapter_config.json").exists()


@pytest.mark.parametrize("merge", [False, True], ids=["adapter", "merged"])
def test_the_tokenizer_and_the_form_of_the_prompts_go_with_it(trained, tmp_path, merge):
    export(trained, "mine", tmp_path / "out", merge=merge)

    facts = json.loads((tmp_path / "out" / FACTS).read_text())
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("ab")["input_ids"]
    assert facts["merged"] is merge
    assert (facts["layout"], facts["reasoning"], facts["max_prompt_tokens"]) == ("completion", "on", 400)
    assert facts["prompt_hash"] == trained.run("mine").metrics["prompt_hash"]


def test_merged_weights_that_answer_otherwise_are_refused_and_nothing_is_left(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TOLERANCES", {"torch.float32": -1.0})

    with pytest.raises(RefusedError, match="nats off the adapter's answers"):
        export(trained, "mine", tmp_path / "out", merge=True)

    assert list(tmp_path.iterdir()) == []


def test_an_adapter_with_numbers_that_are_none_is_refused(trained, tmp_path):
    broken = Workspace(tmp_path / "broken")
    import shutil

    shutil.copytree(trained.folder, broken.folder)
    path = broken.run("mine").adapter / "adapter_model.safetensors"
    save_file({name: weight * float("nan") for name, weight in load_file(path).items()}, path)

    with pytest.raises(RefusedError, match="nan nats"):
        export(broken, "mine", tmp_path / "out", merge=True)


def test_a_folder_with_something_in_it_is_left_alone(trained, tmp_path):
    (tmp_path / "file").write_text("mine")
    before = contents(tmp_path)

    with pytest.raises(DataError, match="is not an empty folder"):
        export(trained, "mine", tmp_path)

    assert contents(tmp_path) == before


def test_an_empty_folder_is_filled(trained, tmp_path):
    (tmp_path / "out").mkdir()

    assert export(trained, "mine", tmp_path / "out").folder == tmp_path / "out"
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_a_4_bit_policy_is_merged_into_the_base_in_full_precision(tiny_model, tmp_path):
    workspace = indexed(tmp_path)
    settings = ("warm_start.kind=none", "policy.reward_model=none", "policy.eval_queries=0", "policy.steps=1")
    train_policy(workspace, small(tiny_model, "model.qlora=true", *settings), name="mine")

    export(workspace, "mine", tmp_path / "out", merge=True)

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert not hasattr(merged.config, "quantization_config")
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}


def test_a_run_that_is_not_there_is_an_error(trained, tmp_path):
    with pytest.raises(DataError, match="no run 'other'"):
        export(trained, "other", tmp_path / "out")
