from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from prlm_cli.core.configuration import describe, resolve, to_toml
from prlm_cli.core.errors import SettingsError
from prlm_cli.core.presets import PRESETS
from prlm_cli.core.sections import Section, settings_of
from prlm_cli.core.settings import LAYOUTS, Config, RetrievalSettings


@pytest.fixture
def config_file(tmp_path):
    def write(text: str):
        path = tmp_path / "my.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_without_layers_the_defaults_hold():
    assert resolve() == Config()


def test_each_layer_wins_over_the_weaker_ones(config_file):
    file = config_file("seed = 1\n[policy]\nsteps = 1\nbeta = 0.1\nepsilon = 0.1\n")
    assignments = ["policy.steps=2", "policy.beta=0.2"]

    config = resolve(preset="paper", config_file=file, assignments=assignments, flags={"policy.steps": 3, "seed": None})

    policy = config.policy
    assert (config.seed, policy.steps, policy.beta, policy.epsilon) == (1, 3, 0.2, 0.1)
    assert policy.num_generations == PRESETS["paper"]["policy"]["num_generations"]
    assert policy.save_steps == Config().policy.save_steps


def test_the_last_assignment_of_a_key_wins():
    assert resolve(assignments=["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_resolves_and_leaves_the_tables_as_they_were(preset):
    before = repr(PRESETS)

    assert resolve(preset=preset, assignments=["policy.rewards.overlap=2"]).policy.rewards["overlap"] == 2
    assert repr(PRESETS) == before
    assert Config().policy.rewards["overlap"] == 1


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("model.name=my/model", "my/model"),
        ('model.name="my model"', "my model"),
        ("model.name=a=b", "a=b"),
        ("model.name = spaced ", "spaced"),
        ("model.name=", ""),
        ("policy.learning_rate=1e-6", 1e-6),
        ("policy.learning_rate=2", 2.0),
        ("model.qlora=true", True),
        ("eval.metrics=['rouge1']", ["rouge1"]),
        ("prompt.reasoning=off", "off"),
        ("policy.rewards.format=0.5", 0.5),
    ],
)
def test_an_assignment_is_toml_and_a_bare_word_is_a_string(assignment, value):
    config = resolve(assignments=[assignment])

    found = config
    for part in assignment.partition("=")[0].strip().split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("policy.step=3", "--set unknown key policy.step; did you mean policy.steps?"),
        ("polcy.steps=3", "--set unknown key polcy; did you mean policy?"),
        ("sed=3", "--set unknown key sed; did you mean seed?"),
        ("policy.steps=0", "--set policy.steps: expected an integer of at least 1; see --help"),
        ("policy.steps=many", "--set policy.steps: expected an integer of at least 1"),
        ("policy.loss_type=ppo", "--set policy.loss_type: expected 'grpo', 'dr_grpo', 'dapo' or 'gspo'"),
        ("policy=3", "--set policy: expected a table"),
        ("seed.x=3", "--set seed: expected an integer of at least 0"),
        ("policy.rewards.overlap=much", "--set policy.rewards.overlap: expected a number"),
        ("model.name=1", "--set model.name: expected a string"),
        ("steps", "--set steps: no '='; write --set section.key=value"),
        ("=3", "--set unknown key"),
        ("reward.heldout_share=nan", "--set reward.heldout_share: expected a number above 0 and below 1"),
        ("generation.temperature=inf", "--set generation.temperature: expected a finite number"),
        ("policy.rewards.overlap=nan", "--set policy.rewards.overlap: expected a finite number"),
        ("policy.rewards=[1]", "--set policy.rewards: expected a table"),
        ("retrieval.min_score=-inf", "--set retrieval.min_score: expected a finite number"),
        ("retrieval.mmr=1.5", "--set retrieval.mmr: expected a number of at least 0 and at most 1"),
        ("retrieval.as_of='soon'", "--set retrieval.as_of: expected a date, such as 2024-05-17"),
        ("retrieval.since='99991231'", "--set retrieval.since: expected a date"),
        ("model.qlora=1", "--set model.qlora: expected true or false"),
        ("eval.metrics=rouge1", "--set eval.metrics: expected a list of strings"),
        ("eval.metrics=['rouge1', 2]", "--set eval.metrics: expected a list of strings"),
        ("policy.steps='3'", "--set policy.steps: expected an integer"),
        ("policy.steps=true", "--set policy.steps: expected an integer"),
        ("policy.beta='0.1'", "--set policy.beta: expected a number of at least 0"),
        ("retrieval.k=-1", "--set retrieval.k: expected an integer of at least 0"),
        ("reward.micro_batch=3", "--set reward.micro_batch: expected a divisor of the 4 queries of a step"),
        ('reward.kind_weights={"own>swapped"=-1}', "--set reward.kind_weights.own>swapped: expected a number of at"),
        (
            "pairs.kinds=['own>swaped']",
            "--set pairs.kinds: expected kinds of pairs, and 'own>swaped' is none; did you mean own>swapped?",
        ),
        ("pairs.kinds=['own>own']", "--set pairs.kinds: expected kinds of pairs, and 'own>own' is none"),
        ("pairs.kinds=[]", "--set pairs.kinds: expected at least one kind of pairs; known: target>own, "),
    ],
)
def test_a_wrong_assignment_is_named_with_a_suggestion(assignment, message):
    with pytest.raises(SettingsError) as caught:
        resolve(assignments=[assignment])

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("seed = 1\n\n[policy]\nsteps = 0\n", 4, "policy.steps: expected an integer"),
        ("[policy]\n# steps = 3\n  steps=0\n", 3, "policy.steps: expected an integer"),
        ("[policy]\nstep = 1\n", 2, "unknown key policy.step; did you mean policy.steps?"),
        ("[polcy]\nsteps = 1\n", 2, "unknown key polcy"),
        ("[reward]\nsteps = 1\n\n[policy]\nsteps = 0\n", 5, "policy.steps: expected an integer"),
        (
            "[reward]\nsteps = 1\nlearning_rate = 1\n[policy]\nlearning_rate = -1\n",
            5,
            "policy.learning_rate: expected a number above 0",
        ),
        ("policy.steps = 0\n", 1, "policy.steps: expected an integer"),
        ("seed = 1\npolicy.steps = 0\n", 2, "policy.steps: expected an integer"),
    ],
)
def test_a_wrong_key_of_a_file_is_named_by_file_and_line(config_file, text, line, message):
    file = config_file(text)

    with pytest.raises(SettingsError) as caught:
        resolve(config_file=file)

    assert str(caught.value).startswith(f"{file}:{line}: {message}")


def test_a_wrong_flag_has_no_origin_and_hides_the_file(config_file):
    with pytest.raises(SettingsError, match=r"^retrieval\.k: expected"):
        resolve(config_file=config_file("[retrieval]\nk = 2\n"), flags={"retrieval.k": -1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = ", "a configuration file is TOML"),
        (b"\xff\xfe", "a configuration file is TOML"),
        (b"seed = 1\nseed = 2\n", "a configuration file is TOML"),
        (b"x = " + b"[" * 5000, "a configuration file is TOML"),
        (None, "no such file; --config names a TOML file"),
    ],
    ids=["syntax", "encoding", "twice", "deep", "missing"],
)
def test_a_file_that_is_not_toml_is_a_settings_error(tmp_path, content, message):
    path = tmp_path / "my.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SettingsError) as caught:
        resolve(config_file=path)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).endswith(message)


def test_an_unknown_preset_is_named_with_a_suggestion():
    with pytest.raises(SettingsError, match=r"no preset 'papr'; did you mean paper\?"):
        resolve(preset="papr")


_FINITE = {"allow_nan": False, "allow_infinity": False}
_ASSIGNED = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**70),
        "model.name": st.text(),
        "model.qlora": st.booleans(),
        "prompt.layout": st.sampled_from(LAYOUTS),
        "generation.temperature": st.floats(0, **_FINITE),
        "generation.max_new_tokens": st.integers(1),
        "policy.reward_model": st.text(),
        "policy.learning_rate": st.floats(0, exclude_min=True, **_FINITE),
        "policy.rewards": st.dictionaries(
            st.from_regex(r"[a-z_-]{1,9}", fullmatch=True), st.floats(**_FINITE), max_size=3
        ),
        "eval.metrics": st.lists(st.text(), max_size=3),
    },
)


@settings(max_examples=50)
@given(preset=st.sampled_from(list(PRESETS)), flags=_ASSIGNED)
def test_the_toml_of_a_configuration_resolves_to_the_same(tmp_path_factory, preset, flags):
    config = resolve(preset=preset, flags=flags)
    file = tmp_path_factory.mktemp("toml") / "config.toml"
    file.write_text(to_toml(config), encoding="utf-8")

    assert resolve(config_file=file) == config
    assert to_toml(resolve(config_file=file)) == to_toml(config)


@given(_ASSIGNED)
def test_a_value_comes_to_the_same_as_assignment_and_as_flag(flags):
    plain = {key: value for key, value in flags.items() if isinstance(value, int | float)}

    assert resolve(assignments=[f"{key}={str(value).lower()}" for key, value in plain.items()]) == resolve(flags=plain)


_SECTIONS = [setting.type for setting in settings_of(Config).values() if isinstance(setting.type, type)]


def test_every_setting_has_a_sentence_of_help_and_a_default_that_it_may_have():
    for section in [Config, *_SECTIONS]:
        settings = settings_of(section)
        for name, setting in settings.items():
            assert setting.type in _SECTIONS or setting.help.endswith("."), name
        assert section.of({name: copy.deepcopy(setting.default) for name, setting in settings.items()}) == section()
        assert section.__doc__
    assert all(issubclass(section, Section) for section in _SECTIONS) and len(_SECTIONS) == 13


def test_a_configuration_cannot_be_changed():
    with pytest.raises(AttributeError):
        Config().seed = 3
    with pytest.raises(AttributeError):
        Config().policy.steps = 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k": -1}, "k: expected an integer of at least 0"),
        ({"k": "4"}, "k: expected an integer of at least 0"),
        ({"retriever": "bm52"}, "retriever: expected 'bm25', 'bm25+', "),
        ({"retriever": None}, "retriever: expected 'bm25', 'bm25+', "),
        ({"since": "soon"}, "since: expected a date, such as 2024-05-17"),
        ({"min_score": float("nan")}, "min_score: expected a finite number"),
        ({"where": "topic=tea"}, "where: expected a list of strings"),
    ],
)
def test_a_wrong_value_is_refused_in_python_as_well(values, message):
    with pytest.raises(SettingsError) as made:
        RetrievalSettings(**values)
    with pytest.raises(SettingsError) as replaced:
        structs.replace(RetrievalSettings(), **values)

    assert str(made.value) == str(replaced.value)
    assert str(made.value).startswith(message)


def test_describe_finds_the_field_behind_a_key():
    assert describe("retrieval.k").default == 4
    assert describe("seed").default == 0
    with pytest.raises(KeyError):
        describe("retrieval.q")


@pytest.mark.parametrize("written", ["2024-05-17", "'2024-05-17'", "2024-05-17T10:00:00"])
def test_a_date_needs_no_quotes(tmp_path, written):
    config = tmp_path / "config.toml"
    config.write_text(f"[retrieval]\nas_of = {written}\n")

    for resolved in (resolve(config_file=config), resolve(assignments=[f"retrieval.as_of={written}"])):
        assert resolved.retrieval.as_of == written.strip("'")
