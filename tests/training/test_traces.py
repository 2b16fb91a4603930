from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prlm_cli.core.records import ProfileDocument
from prlm_cli.training.traces import trace


def _records(*titles):
    return [ProfileDocument(doc_id=str(n), text="private text", title=title) for n, title in enumerate(titles)]


@pytest.mark.parametrize(
    ("text", "target", "plan"),
    [
        ("This patch fixes a leak in the driver.", "net: fix leak in driver", "leak, driver"),
        ("We parse trees.", "A Forest", "own words"),
        ("Trees, trees and trees", "TREES trees Trees", "trees"),
        ("one two three four five six", "six five four three two one", "six, five, four, three"),
        ("of the and", "of the and", "own words"),
        ("", "", "own words"),
    ],
)
def test_the_plan_is_made_of_words_that_query_and_target_share(text, target, plan):
    assert trace(text, [], target) == f"Style: unknown. Plan: {plan}."


def test_a_trace_is_a_style_and_a_plan():
    records = _records("net/mlx5: fix leak", None, "net/i40e: fix crash")

    assert trace("A leak of rings in vhost.", records, "net/vhost: fix ring leak") == (
        "Style: 3 words, lower case, tag and colon first. Plan: vhost, leak."
    )


_TITLES = st.lists(st.sampled_from(["Alpha", "beta", "GAMMA", "net:", "7", "delta?"]), min_size=1, max_size=6)


@example(titles=["Alpha beta net: 7", "Alpha beta net: GAMMA", "Alpha beta net:"], target="")
@given(titles=st.lists(_TITLES.map(" ".join), min_size=1, max_size=6), target=_TITLES.map(" ".join))
def test_no_record_is_quoted(titles, target):
    written = trace("alpha and beta", _records(*titles), target)

    assert "private" not in written
    assert not [title for title in titles if len(title.split()) > 2 and title.lower() in written.lower()]
    plan = written.partition("Plan: ")[2].rstrip(".")
    assert plan == "own words" or set(plan.split(", ")) <= {"alpha", "beta"}
