from __future__ import annotations

import re

import pytest

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import OutOfMemoryError, SettingsError
from prlm_cli.models.shapes import shape_of
from prlm_cli.pipeline.fit import changes, fit, size_of_card
from prlm_cli.pipeline.memory import GIB, completions_of_one_prompt, memory_of


def _config(model, **flags):
    names = {key.replace("__", "."): value for key, value in flags.items()}
    lengths = {"prompt.max_tokens": 1024, "policy.max_new_tokens": 256}
    return resolve(flags={"model.name": f"Qwen/Qwen2.5-{model}", **lengths, **names})


def _fitted(config, gigabytes, device="cuda"):
    shape = shape_of(config.model.name)
    found = fit(shape, config, gigabytes * GIB, device)
    assert memory_of(shape, found, device).peak <= gigabytes * GIB
    return found


@pytest.mark.parametrize(("text", "gigabytes"), [("8gb", 8), ("8 GB", 8), ("12GiB", 12), ("24", 24), ("7.5g", 7.5)])
def test_a_size_is_read_as_people_write_it(text, gigabytes):
    assert size_of_card(text) == gigabytes * GIB


@pytest.mark.parametrize("text", ["", "0gb", "much", "8tb", "-8gb", "8gbgb"])
def test_what_is_no_size_is_an_error(text):
    with pytest.raises(SettingsError, match="is no size of a card"):
        size_of_card(text)


def test_what_fits_stays_as_it_is():
    config = _config("0.5B")

    assert _fitted(config, 24) == config
    assert changes(config, config) == []


def test_smaller_passes_come_before_shorter_lengths():
    config = _config("1.5B", policy__gradient_checkpointing="off", warm_start__kind="none")

    found = _fitted(config, 12)

    assert (found.prompt, found.policy.max_new_tokens) == (config.prompt, 256)
    assert completions_of_one_prompt(found) < 8
    assert found.policy.micro_batch_tokens == 1023 + 256 * completions_of_one_prompt(found)
    assert found.policy.prompts_per_step == config.policy.prompts_per_step
    assert changes(config, found) == [f"policy.micro_batch_tokens={found.policy.micro_batch_tokens}"]


def test_of_the_settings_that_fit_the_largest_pass_is_taken():
    config = _config("1.5B", policy__gradient_checkpointing="off", warm_start__kind="none")
    found = _fitted(config, 12)
    shape = shape_of(config.model.name)

    assert completions_of_one_prompt(found) == 4  # a half; more is the whole group
    assert memory_of(shape, config, "cuda").peak > 12 * GIB


def test_a_limit_that_was_set_is_lowered_and_never_raised():
    config = _config("1.5B", policy__micro_batch_tokens=100_000, policy__prompts_per_step=16)

    assert _fitted(config, 80) == config
    assert _fitted(config, 8).policy.micro_batch_tokens < 100_000
    tight = _config("1.5B", policy__micro_batch_tokens=1300)
    assert _fitted(tight, 8).policy.micro_batch_tokens == 1300


def test_checkpointing_is_turned_on_where_a_cpu_needs_it_and_never_against_the_user():
    config = _config("0.5B", policy__gradient_checkpointing="off")

    assert _fitted(_config("0.5B"), 6, "cpu").policy.gradient_checkpointing == "on"
    assert _fitted(config, 24, "cpu").policy.gradient_checkpointing == "off"


def test_lengths_are_cut_where_nothing_else_is_enough():
    config = _config("7B", model__qlora=True)

    found = _fitted(config, 7.5)

    assert found.prompt.max_tokens < 1024
    assert found.policy.max_new_tokens < 256


def test_what_never_fits_says_how_much_it_takes_and_what_to_do():
    with pytest.raises(OutOfMemoryError, match=r"takes \d+\.\d GiB at the least, 8 are there; try --qlora"):
        fit(shape_of("Qwen/Qwen2.5-7B"), _config("7B"), 8 * GIB, "cuda")
    with pytest.raises(OutOfMemoryError, match="use a smaller model"):
        fit(shape_of("Qwen/Qwen2.5-7B"), _config("7B", model__qlora=True), 4 * GIB, "cuda")


def test_what_it_takes_at_the_least_is_enough():
    config = _config("7B", model__qlora=True)
    with pytest.raises(OutOfMemoryError) as caught:
        fit(shape_of("Qwen/Qwen2.5-7B"), config, 5 * GIB, "cuda")
    least = float(re.search(r"takes (\d+\.\d) GiB at the least", str(caught.value))[1])

    assert _fitted(config, least + 0.05)
    with pytest.raises(OutOfMemoryError):
        _fitted(config, least - 0.05)


def test_the_changes_make_the_fitted_settings_of_the_others():
    config = _config("7B", model__qlora=True)
    found = _fitted(config, 8)

    assert resolve(base=config, assignments=changes(config, found)) == found
