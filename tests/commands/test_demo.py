from __future__ import annotations

import pytest


def test_the_demo_names_its_flags(prlm):
    result = prlm("demo", "--help")

    assert (result.exit_code, result.stderr) == (0, "")
    for flag in ("--quick", "--keep", "--seed", "--json", "--offline"):
        assert flag in result.stdout


@pytest.mark.parametrize(
    ("args", "given"),
    [
        ([], ("prlm-demo", {"quick": False, "seed": 0})),
        (["--quick", "--keep", "here", "--seed", "3"], ("here", {"quick": True, "seed": 3})),
    ],
)
def test_the_demo_hands_its_flags_on(prlm, monkeypatch, args, given):
    seen = []

    def demo(keep, *, quick, seed, **_):
        seen.append((str(keep), {"quick": quick, "seed": seed}))
        raise KeyboardInterrupt

    monkeypatch.setattr("prlm_cli.pipeline.demo.demo", demo)

    assert prlm("demo", *args) == (130, "", "")
    assert seen == [given]


def test_a_negative_seed_is_a_usage_error(prlm):
    result = prlm("demo", "--seed", "-1")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("prlm: Invalid value for '--seed'") and result.stderr.count("\n") == 1
