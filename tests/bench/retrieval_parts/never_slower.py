"""One user who asks again and again: whether there is a length of history, and a number of queries, at which we lose.

Each alternative's time includes its building. bm25s with one index comes twice: over everybody's documents with a mask
for the user, as in the other figures, and over this user's documents alone, which is the strongest that there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from prlm_cli.core.records import Query
from tests.bench.figures import Figures, interleaved, progress, timed
from tests.bench.retrieval_parts.alternatives import (
    SharedIndex,
    bm25s_per_query,
    compile_shared_index,
    rank_bm25_per_query,
)
from tests.bench.retrieval_parts.stores import Bench, K, text_of

_COUNTS = (1, 10, 100, 1000)
_LONGEST = 60.0  # seconds; what would take longer is estimated
_MASKED = 100  # queries that tell what one query of the shared index costs
Times = dict[int, float]  # number of queries -> seconds


def measure_never_slower(bench: Bench, figures: Figures) -> None:
    """`never_slower_ALTERNATIVE_Ndocs`: their time over ours, at the number of queries at which that is least."""
    stored = bench.indexed("histories", bench.scale.histories)
    histories = [
        [text_of(document) for document in stored.corpus.documents(user)] for user in range(len(bench.scale.histories))
    ]
    compile_shared_index()
    everybody: list[SharedIndex] = []
    build = timed(lambda: everybody.append(SharedIndex([text for texts in histories for text in texts])))()
    worst: dict[str, float] = {}
    first = 0
    for user, texts in enumerate(histories):
        progress(f"one user of {len(texts)} documents")
        queries = stored.corpus.queries(user, max(_COUNTS))
        asked = [query.text for query in queries]
        own = range(first, first := first + len(texts))
        measures: dict[str, Callable[[], Times]] = {
            "prlm": partial(_ours, stored.retrieval, queries),
            "rank_bm25": partial(_per_query, rank_bm25_per_query, texts, asked),
            "bm25s_per_user": partial(_per_query, bm25s_per_query, texts, asked),
            "bm25s_global": partial(_masked, everybody[0], build, own, asked),
            "bm25s_own_index": partial(_own_index, texts, asked),
        }
        taken = interleaved(3 if len(texts) <= 1000 else 1, measures)
        for name in list(measures)[1:]:
            least = min(_ratio(taken[name], taken["prlm"], count) for count in _COUNTS)
            figures.add(f"never_slower_{name}_{len(texts)}docs", least, "x")
            worst[name] = min(least, worst.get(name, least))
        milliseconds = median(times[1000] for times in taken["prlm"])  # seconds for a thousand
        figures.add(f"one_user_query_ms_{len(texts)}docs", milliseconds, "ms")
    figures.add("never_slower_worst", min(value for name, value in worst.items() if name != "bm25s_own_index"), "x")
    figures.add("never_slower_worst_own_index", worst["bm25s_own_index"], "x")


def _ratio(theirs: Sequence[Times], ours: Sequence[Times], count: int) -> float:
    return median(their[count] / our[count] for their, our in zip(theirs, ours, strict=True))


def _ours(retrieval: Callable[[Sequence[Query]], Callable[[], float]], queries: Sequence[Query]) -> Times:
    times: Times = {}
    for count in _COUNTS:
        estimate = 10 * times.get(count // 10, 0.0)  # not too low: with more queries, one costs less
        times[count] = estimate if estimate > _LONGEST else retrieval(queries[:count])()
    return times


def _per_query(
    retrieve: Callable[[Sequence[str], str, int], object], texts: Sequence[str], asked: Sequence[str]
) -> Times:
    """What is built for every query costs the same for each, so a few tell it."""
    few = asked[: max(1, min(20, 2000 // len(texts)))]
    seconds = timed(lambda: [retrieve(texts, query, K) for query in few])() / len(few)
    return {count: count * seconds for count in _COUNTS}


def _masked(index: SharedIndex, build: float, own: range, asked: Sequence[str]) -> Times:
    few = [(own, query) for query in asked[:_MASKED]]
    seconds = timed(lambda: list(index.best_of_ranges(few, K)))() / len(few)
    return {count: build + count * seconds for count in _COUNTS}


def _own_index(texts: Sequence[str], asked: Sequence[str]) -> Times:
    built: list[SharedIndex] = []
    build = timed(lambda: built.append(SharedIndex(texts)))()
    return {count: build + timed(partial(built[0].best, asked[:count], K))() for count in _COUNTS}
