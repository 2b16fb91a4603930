import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.metrics.agreement import cohen_kappa


def test_kappa_of_a_table_worked_by_hand():
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p_o = 0.7, p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15

    assert cohen_kappa(a, b) == pytest.approx(0.4)


def test_kappa_is_unknown_without_items_or_variation():
    assert cohen_kappa([], []) is None
    assert cohen_kappa(["a", "a"], ["a", "a"]) is None


@given(st.lists(st.tuples(st.sampled_from("abt"), st.sampled_from("abt")), min_size=2))
def test_kappa_is_the_one_of_scikit_learn(pairs):
    from sklearn.metrics import cohen_kappa_score

    a, b = zip(*pairs, strict=True)
    found = cohen_kappa(a, b)

    if found is None:
        assert len({*a, *b}) == 1
    else:
        assert found == pytest.approx(cohen_kappa_score(a, b))
        assert found == pytest.approx(cohen_kappa(b, a))
