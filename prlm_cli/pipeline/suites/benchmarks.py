"""Which suites there are: what of each is asked, and by which metrics it is scored.

Sources: LaMP (arXiv 2304.11406), whose metrics are accuracy and F1 (1 and 2), MAE and RMSE (3), ROUGE-1 and ROUGE-L
(4 to 7); LongLaMP (arXiv 2407.11016), scored by ROUGE-1, ROUGE-L and METEOR.
"""

from __future__ import annotations

from typing import NamedTuple

from prlm_cli.core.errors import SettingsError, did_you_mean
from prlm_cli.metrics.lamp_tasks import LEADERBOARD


class Benchmark(NamedTuple):
    """A suite. `task` names the prompt's parts, `metrics` the scores of answers with a target.

    Without metrics, it is one of preferences: it has choices and answers to judge. `number` is LaMP's own of a task.
    """

    task: str
    metrics: tuple[str, ...] = ()
    number: str | None = None


_LONG = ("rouge1", "rougeL", "meteor_stem")  # METEOR proper needs WordNet: --metrics meteor, where that is installed
BENCHMARKS = {
    "lamp-1": Benchmark("citations", LEADERBOARD[1], "1"),
    "lamp-2": Benchmark("tags", LEADERBOARD[2], "2"),
    "lamp-3": Benchmark("ratings", LEADERBOARD[3], "3"),
    "lamp-4": Benchmark("titles", LEADERBOARD[4], "4"),
    "lamp-5": Benchmark("titles", LEADERBOARD[5], "5"),
    "lamp-6": Benchmark("subjects", LEADERBOARD[6], "6"),
    "lamp-7": Benchmark("tweets", LEADERBOARD[7], "7"),
    "longlamp-email": Benchmark("emails", _LONG),
    "longlamp-abstract": Benchmark("abstracts", _LONG),
    "longlamp-review": Benchmark("reviews", _LONG),
    "longlamp-topic": Benchmark("posts", _LONG),
    "realpref": Benchmark("replies"),
    "personalllm": Benchmark("replies"),
}


def benchmark(name: str) -> Benchmark:
    """The suite of that name.

    Raises:
        SettingsError: If there is none.
    """
    if name not in BENCHMARKS:
        raise SettingsError(f"no suite '{name}'", hint=did_you_mean(name, BENCHMARKS))
    return BENCHMARKS[name]
