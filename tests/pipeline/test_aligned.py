from pathlib import Path

import msgspec
import pytest

from prlm_cli.core.errors import DataError
from prlm_cli.pipeline.aligned import QueryDifference, UserDifference, align, by_user, outcome, parts_of
from prlm_cli.pipeline.compare import compare
from prlm_cli.pipeline.evaluate import score_generations
from tests.pipeline.sides import BASE, TARGET, generations


def aligned(a, b, metric="exact_match"):
    return align(score_generations(a, [metric]), score_generations(b, [metric]))


def test_by_query_pairs_what_both_answered_in_the_order_of_a():
    found = aligned(generations(TARGET, TARGET, None), list(reversed(generations(None, TARGET, start=1))))

    assert found.by_query("exact_match") == [
        QueryDifference("q1", "u1", 1.0, 0.0, 1.0),
        QueryDifference("q2", "u2", 0.0, 1.0, -1.0),
    ]
    assert (found.only_a, found.only_b, found.generations()) == (1, 0, (2, 2))


def test_by_query_averages_only_the_seeds_that_the_metric_applies_to():
    unknown = [msgspec.structs.replace(BASE, query_id="q0", user_id="u0", target=None, seed=1)]
    found = aligned([*generations(None), *unknown], generations(TARGET))

    assert found.by_query("exact_match") == [QueryDifference("q0", "u0", 0.0, 1.0, -1.0)]
    assert found.generations() == (2, 1)


def test_by_user_averages_queries_and_sorts_by_the_difference():
    users = ["u2", "u1", "u2", "u3"]
    found = aligned(generations(TARGET, TARGET, None, TARGET, users=users), generations(*[None] * 4, users=users))

    assert by_user(found.by_query("exact_match")) == [
        UserDifference("u1", 1.0, 0.0, 1.0, 1),
        UserDifference("u3", 1.0, 0.0, 1.0, 1),
        UserDifference("u2", 0.5, 0.0, 0.5, 2),
    ]


@pytest.mark.parametrize(
    "metric, difference, expected",
    [
        ("rougeL", 0.1, 1),
        ("rougeL", -0.1, -1),
        ("rougeL", 1e-12, 0),
        ("rougeL", -1e-12, 0),
        ("copy_rate", 0.1, -1),
        ("copy_rate", -0.1, 1),
        ("length", 0.1, 0),
    ],
)
def test_outcome_is_in_the_direction_of_the_metric(metric, difference, expected):
    assert outcome(metric, difference) == expected


def test_parts_of_a_name_with_commas_are_files_unless_it_is_one(tmp_path):
    whole = tmp_path / "a,b.jsonl"
    parts = [Path(f"{tmp_path}/a"), Path("b.jsonl")]

    assert parts_of(whole) == parts
    whole.touch()
    assert parts_of(whole) == [whole]
    assert parts_of(Path("-")) == [Path("-")]
    assert len(parts_of(Path(",".join(["a" * 50] * 99)))) == 99  # longer than a file's name may be


@pytest.mark.parametrize(
    "a, b, message",
    [
        ([], generations(TARGET), "A holds no generations"),
        (generations(TARGET), [], "B holds no generations"),
        (generations(TARGET) * 2, generations(TARGET), "A holds query 'q0' twice with seed 0"),
        (generations(TARGET), [*generations(TARGET, seed=7), *generations(None, seed=7)], "B .* twice with seed 7"),
        (
            [*generations(TARGET), *generations(TARGET, users=["u7"], seed=1)],
            generations(TARGET),
            "A holds query 'q0' of several users",
        ),
        (
            [*generations(TARGET), msgspec.structs.replace(generations(TARGET, seed=1)[0], retriever="recency")],
            generations(TARGET),
            "A pools generations of retrievers bm25, recency",
        ),
        (
            generations(TARGET, TARGET),
            generations(TARGET, start=5),
            r"A and B share no query: A holds 2 \('q0', ...\), B 1 \('q5', ...\)",
        ),
        (generations(TARGET), generations(TARGET, users=["u7"]), "query 'q0' is of user 'u0' in A, of 'u7' in B"),
        (
            [msgspec.structs.replace(BASE, target=None)],
            [BASE],
            "metric 'rougeL' applies to none of the 1 common queries",
        ),
    ],
    ids=[
        "empty-a", "empty-b", "repeated", "repeated-in-b", "users", "retrievers", "nothing-in-common", "other-user",
        "no-target",
    ],
)  # fmt: skip
def test_what_cannot_be_paired_is_refused(a, b, message):
    with pytest.raises(DataError, match=message):
        compare(a, b)
