from __future__ import annotations

import pytest
import torch
from transformers import Trainer, TrainingArguments

from prlm_cli.core.errors import OutOfMemoryError
from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import WarmStartSettings
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training.arguments import common_arguments
from prlm_cli.training.completion_trainer import Example, negative_logp
from prlm_cli.training.order import length_order
from prlm_cli.training.supervised import remove_printer, train_supervised
from tests.bench.training_parts.plan import kept_bytes
from tests.training.grpo_runs import Figures
from tests.training.stock import padded
from tests.training.test_bounded_trainer import OutOfMemory
from tests.training.tiny import VOCABULARY, adapted, largest_difference, scaled, trainable, weights_of

_RAGGED = [Example([65 + n] * (3 + 2 * n), [97 + n, 98, 99, 256][: 1 + n % 4]) for n in range(6)]


def train(model, tokenizer, examples, folder, note=print, **fields):
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
        note=note,
    )
    return figures


def train_by_stock(model, examples, folder, *, steps, batch_size, micro_batch, learning_rate):
    """The same with the library's own loss: full rows padded on the right, batches accumulated."""

    def collate(rows):
        ids, mask = padded([example.prompt_ids + example.completion_ids for example in rows], left=False)
        labels = torch.full_like(ids, -100)
        for label, row, (prompt, completion) in zip(labels, ids, rows, strict=True):
            answer = slice(len(prompt), len(prompt) + len(completion))
            label[answer] = row[answer]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    order = length_order([len(e.prompt_ids) + len(e.completion_ids) for e in examples], batch_size, steps, 0)
    figures = Figures()
    with quiet_libraries():
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                **common_arguments(folder, steps=steps, learning_rate=learning_rate, seed=0),
                per_device_train_batch_size=micro_batch,
                gradient_accumulation_steps=batch_size // micro_batch,
                warmup_steps=1,
                max_grad_norm=1.0,
                save_strategy="no",
                remove_unused_columns=False,
                train_sampling_strategy="sequential",
            ),
            train_dataset=[examples[n] for n in order],
            data_collator=collate,
            callbacks=[figures],
        )
        remove_printer(trainer)
        trainer.train()
    return [line for line in figures.lines if "loss" in line]


def _negative_logps(model, example):
    """Those of the completion's tokens, after the prompt."""
    ids = torch.tensor([example.prompt_ids + example.completion_ids])
    all_logps = model(input_ids=ids).logits.log_softmax(-1)[0, :-1]
    return -all_logps.gather(-1, ids[0, 1:, None])[len(example.prompt_ids) - 1 :, 0]


def test_only_the_tokens_of_the_completion_count_in_the_loss(tiny_model, tmp_path):
    model, tokenizer = trainable(tiny_model)
    examples = [Example([65, 66, 67, 68], [97, 98, 256]), Example([70], [99, 256]), Example([71] * 9, [256])]
    expected = torch.cat([_negative_logps(model, example) for example in examples])

    figures = train(model, tokenizer, examples, tmp_path, steps=1, batch_size=3)

    assert len(expected) == 6
    assert figures[0]["loss"] == pytest.approx(expected.mean().item(), abs=1e-5)


def test_in_bf16_the_loss_is_that_of_fp32_but_for_rounding(tiny_model, tmp_path):
    fields = {"steps": 4, "batch_size": 6, "learning_rate": 1e-3}
    (model, tokenizer), (exact, _) = trainable(tiny_model, precision="bf16"), trainable(tiny_model)

    figures = train(model, tokenizer, _RAGGED, tmp_path / "bf16", **fields)
    expected = train(exact, tokenizer, _RAGGED, tmp_path / "fp32", **fields)

    for name in ("loss", "grad_norm"):
        assert [line[name] for line in figures] == pytest.approx([line[name] for line in expected], rel=0.03)
    assert {weight.dtype for weight in weights_of(model).values()} == {torch.float32}
    assert {weight.dtype for weight in weights_of(model, trained=False).values()} == {torch.bfloat16}


@pytest.mark.parametrize("micro_batch", [6, 3, 2, 1])
def test_training_is_that_of_the_library_with_all_logits(tiny_model, tmp_path, micro_batch):
    fields = {"steps": 4, "batch_size": 6, "micro_batch": micro_batch, "learning_rate": 1e-3}
    (model, tokenizer), (stock, _) = trainable(tiny_model), trainable(tiny_model)

    figures = train(model, tokenizer, _RAGGED, tmp_path / "ours", **fields)
    expected = train_by_stock(stock, _RAGGED, tmp_path / "stock", **fields)

    for name in ("loss", "grad_norm"):
        assert [line[name] for line in figures] == pytest.approx([line[name] for line in expected], abs=1e-5)
    assert largest_difference(weights_of(model), weights_of(stock)) < 1e-5


@pytest.mark.parametrize(
    "model",
    [lambda: adapted("llama"), lambda: adapted("mistral, all layers slide"), scaled],
    ids=["llama", "sliding windows", "logits scaled after the head"],
)
def test_loss_and_gradient_are_those_of_the_cross_entropy(model):
    model, found = model(), []
    examples = [Example([n % VOCABULARY for n in row[0]], [n % VOCABULARY for n in row[1]]) for row in _RAGGED]

    for loss in (
        negative_logp(model, examples, 0),
        torch.cat([_negative_logps(model, example) for example in examples]).sum(),
    ):
        model.zero_grad()
        loss.backward()
        found.append((loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])))

    (loss, gradient), (expected_loss, expected) = found
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert float((gradient - expected).norm()) <= 1e-5 * float(expected.norm())


@pytest.mark.parametrize(
    ("fails", "most"),
    [
        (lambda self, rows, tokens, trains: rows > 1, [3, 1]),
        (lambda self, rows, tokens, trains: rows > 3, [3]),
        (lambda self, rows, tokens, trains: rows > 3 or len(self.sizes) == 3, [3, 1]),
    ],
    ids=["all but one example", "more than half of them", "the second pass of the second try"],
)
def test_a_run_that_ran_out_of_memory_ends_like_one_that_did_not(tiny_model, tmp_path, fails, most):
    fields, runs, notes = {"steps": 3, "batch_size": 6, "learning_rate": 1e-3}, [], []
    for name in ("enough", "too little"):
        model, tokenizer = trainable(tiny_model)
        if name == "too little":
            OutOfMemory(model, fails)
        figures = train(model, tokenizer, _RAGGED, tmp_path / name, notes.append, **fields)
        runs.append((weights_of(model), [(line["loss"], line["grad_norm"]) for line in figures]))

    (weights, lines), (expected, expected_lines) = runs
    assert notes == [f"out of memory: at most {n} examples at once from now on" for n in most]
    assert largest_difference(weights, expected) < 1e-5
    assert lines == [pytest.approx(line, abs=1e-5) for line in expected_lines]


def test_an_example_that_does_not_fit_is_an_error_that_says_what_to_change(tiny_model, tmp_path):
    model, tokenizer = trainable(tiny_model)
    OutOfMemory(model, lambda self, rows, tokens, trains: True)

    with pytest.raises(OutOfMemoryError, match=r"^not even 1 examples at once fit into memory; set policy\.gradient"):
        train(model, tokenizer, _RAGGED, tmp_path, lambda text: None, steps=1, batch_size=4)


def test_what_is_kept_for_the_way_back_has_no_row_of_the_vocabulary(tiny_model):
    model, _ = trainable(tiny_model)
    head = model.get_output_embeddings()
    kept = []
    for vocabulary in (head.weight.shape[0], 100 * head.weight.shape[0]):
        head.weight = torch.nn.Parameter(torch.randn(vocabulary, head.weight.shape[1]), requires_grad=False)
        kept.append(kept_bytes(model, lambda: negative_logp(model, _RAGGED, 0)))

    assert kept[0] == kept[1]


def test_the_head_reads_the_completions_only(tiny_model, tmp_path):
    model, tokenizer = trainable(tiny_model)
    examples = [Example([65] * 30, [97, 98, 256]), Example([70] * 20, [99, 256])]
    read = []
    model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: read.append(len(output)))

    train(model, tokenizer, examples, tmp_path, steps=1, batch_size=2)

    assert read == [3 + 2]


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
