from __future__ import annotations

import pytest

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument, Retrieved
from prlm_cli.rewards import REWARDS, RewardContext
from prlm_cli.rewards.named import reward_named
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec

_CONTEXT = RewardContext(PromptBuilder(TASKS["titles"], "completion", False, 500, ByteCodec()))


def _query(*titles):
    profile = [ProfileDocument(doc_id=str(n), text="x", title=title) for n, title in enumerate(titles)]
    return Retrieved(query_id="q", user_id="u", text="x", profile=profile, retriever="bm25")


@pytest.mark.parametrize(
    ("completion", "titles", "expected"),
    [
        (" net: fix a memory leak", ["net: fix a memory leak", "app: go"], -1.0),
        (" fix a memory leak in net", ["net: fix a memory leak"], -1 / 3),
        (" app: drop the cache", ["net: fix a memory leak"], 0.0),
        (" ", ["net: fix a memory leak"], 0.0),
        (" anything", [], None),
    ],
    ids=["a title", "one run of three", "words of its own", "no answer", "no records"],
)
def test_what_is_copied_from_the_titles_costs(completion, titles, expected):
    found = REWARDS["copy"](_CONTEXT)(completions=[completion], queries=[_query(*titles)])

    assert found == [None if expected is None else pytest.approx(expected)]


def test_it_is_the_metric_of_the_same_answer_turned_round():
    completions = [" fix a memory leak in net", " net: fix a memory leak", " x", " "]
    asked = {"completions": completions, "queries": [_query("net: fix a memory leak")] * 4}

    metric = reward_named("metric:copy_rate")(_CONTEXT)(**asked)

    assert REWARDS["copy"](_CONTEXT)(**asked) == [-share for share in metric]
    assert max(metric) == 1.0
