from __future__ import annotations

import pytest
import torch

from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import WarmStartSettings
from prlm_cli.training.supervised import Example, train_supervised
from tests.training.tiny import largest_difference, trainable, weights_of


def train(model, tokenizer, examples, folder, **fields):
    figures = []
    train_supervised(
        model,
        tokenizer,
        examples,
        WarmStartSettings(**fields),
        seed=0,
        checkpoints=folder,
        stage=Silent().stage("test"),
        log=figures.append,
    )
    return figures


def _negative_log_probabilities(model, example):
    """Those of the completion's tokens, after the prompt."""
    ids = torch.tensor([example.prompt_ids + example.completion_ids])
    with torch.no_grad():
        all_logps = model(input_ids=ids).logits.log_softmax(-1)[0, :-1]
    return -all_logps.gather(-1, ids[0, 1:, None])[len(example.prompt_ids) - 1 :, 0]


def test_only_the_tokens_of_the_completion_count_in_the_loss(tiny_model, tmp_path):
    model, tokenizer = trainable(tiny_model)
    examples = [Example([65, 66, 67, 68], [97, 98, 256]), Example([70], [99, 256]), Example([71] * 9, [256])]
    expected = torch.cat([_negative_log_probabilities(model, example) for example in examples])

    figures = train(model, tokenizer, examples, tmp_path, steps=1, batch_size=3)

    assert len(expected) == 6
    assert figures[0]["loss"] == pytest.approx(float(expected.mean()), abs=1e-3)


def test_the_head_reads_the_completions_only(tiny_model, tmp_path):
    model, tokenizer = trainable(tiny_model)
    examples = [Example([65] * 30, [97, 98, 256]), Example([70] * 20, [99, 256])]
    read = []
    model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: read.append(output.shape[1]))

    train(model, tokenizer, examples, tmp_path, steps=1, batch_size=2)

    assert read == [4]  # the longest completion, and the position before it


def test_a_constant_answer_is_learned(tiny_model, tmp_path):
    model, tokenizer = trainable(tiny_model)
    examples = [Example([65 + n] * 3, [97]) for n in range(4)]
    base = weights_of(model, trained=False)

    figures = train(model, tokenizer, examples, tmp_path, steps=60, batch_size=4, learning_rate=3e-2)

    assert figures[-1]["loss"] < figures[0]["loss"] - 0.3  # the logits of so small a head are within 0.7
    ids = torch.tensor([examples[0].prompt_ids])
    written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=1)
    assert written[0, 3:].tolist() == [97]
    assert largest_difference(base, weights_of(model, trained=False)) == 0


def test_a_4_bit_model_is_trained_through_its_adapter(tiny_model, tmp_path):
    model, tokenizer = trainable(tiny_model, qlora=True)
    before = weights_of(model)

    figures = train(model, tokenizer, [Example([65, 66], [97, 256])] * 2, tmp_path, steps=2, batch_size=2)

    assert {weight.dtype for weight in weights_of(model).values()} == {torch.float32}
    assert largest_difference(before, weights_of(model)) > 0
    assert figures[0]["grad_norm"] > 0


def test_nothing_is_printed(tiny_model, tmp_path, capfd):
    train(*trainable(tiny_model), [Example([65], [97])] * 4, tmp_path, steps=2, batch_size=2)

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("change", [{"micro_batch": 2}, {"micro_batch": 1}], ids=str)
def test_smaller_passes_train_the_same(tiny_model, tmp_path, change):
    def trained(name, **fields):
        model, tokenizer = trainable(tiny_model)
        examples = [Example([65 + n] * (3 + n), [97 + n, 256][: 1 + n % 2]) for n in range(4)]
        train(model, tokenizer, examples, tmp_path / name, steps=3, batch_size=4, learning_rate=1e-3, **fields)
        return weights_of(model)

    assert largest_difference(trained("whole"), trained("parts", **change)) < 1e-5


def test_checkpointing_trains_the_same(tiny_model, tmp_path):
    def trained(setting):
        model, tokenizer = trainable(tiny_model)
        train_supervised(
            model,
            tokenizer,
            [Example([65 + n] * 4, [97, 256]) for n in range(2)],
            WarmStartSettings(steps=2, batch_size=2),
            seed=0,
            gradient_checkpointing=setting,
            checkpoints=tmp_path / setting,
            stage=Silent().stage("test"),
            log=lambda _: None,
        )
        return weights_of(model)

    assert largest_difference(trained("on"), trained("off")) < 1e-6
