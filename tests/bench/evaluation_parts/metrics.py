"""How fast metrics are beside the libraries that define them, and how far from these they ever are."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
from rouge_score.rouge_scorer import RougeScorer

from prlm_cli.core import jsonl
from prlm_cli.core.records import Generation
from prlm_cli.metrics import METRICS
from prlm_cli.pipeline.processes import chunks, in_order
from tests.bench import processes
from tests.bench.evaluation_parts.rouge_scores import rouge_scores
from tests.bench.figures import Figures, interleaved, ratio, timed
from tests.metrics.generations import BASE, NASTY, answered, real_pairs
from tests.metrics.test_references import REFERENCES, ROUGE

Pair = tuple[str, str]  # answer and target

GENERATIONS = 100_000
_ROUNDS = 5
_CORES = 2
_CHUNK = 20_000
_REPEATS = 100  # of the pairs, so that starting two processes is a small part of the time, as with many generations


def add_metrics(figures: Figures, data: Path, generations: int = GENERATIONS, repeats: int = _REPEATS) -> None:
    """Adds the speed of ROUGE, the differences from the references, and what an evaluation of many takes."""
    pairs = real_pairs(data)
    figures.add("pairs", len(pairs), "pairs")
    _add_differences([*pairs, *((answer, target.strip()) for answer, target in NASTY)], figures)
    _add_speed(pairs, repeats, figures)
    with tempfile.TemporaryDirectory(prefix="prlm-bench-") as folder:
        _add_evaluation(Path(folder), pairs, generations, figures)


def _add_differences(pairs: Sequence[Pair], figures: Figures) -> None:
    """The largest difference of any metric from its reference, on any pair."""
    largest = {}
    for name, reference in REFERENCES.items():
        metric = METRICS[name]
        largest[name] = max(abs((metric(answered(*pair)) or 0.0) - reference(*pair)) for pair in pairs)
    figures.add("rouge_max_difference", max(largest[name] for name in ROUGE), "score")
    figures.add("metric_max_difference", max(largest.values()), "score")


def _add_speed(pairs: Sequence[Pair], repeats: int, figures: Figures) -> None:
    """ROUGE-1, 2 and L of every pair: by the reference, by ours on one core, and by ours on two."""
    reference = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    many = [pair for _ in range(repeats) for pair in pairs]
    ways: dict[str, Callable[[], object]] = {
        "reference": lambda: [reference.score(target, answer) for answer, target in pairs],
        "one core": lambda: rouge_scores(many),
        "two cores": lambda: list(in_order(rouge_scores, chunks(many, _CHUNK), _CORES)),
    }
    taken = interleaved(_ROUNDS, {name: timed(way) for name, way in ways.items()})
    whole = [seconds * repeats for seconds in taken["reference"]]  # the same pairs again take as long again
    figures.add("rouge_speedup", ratio(whole, taken["two cores"]), "x")
    figures.add("rouge_speedup_one_core", ratio(whole, taken["one core"]), "x")


def _add_evaluation(folder: Path, pairs: Sequence[Pair], count: int, figures: Figures) -> None:
    """`prlm eval` of so many generations, and of a tenth: its time and memory, start and intervals included."""
    for name, size in {"100k": count, "10k": count // 10}.items():
        path = folder / f"{name}.jsonl"
        jsonl.write(path, islice(_generations(pairs), size))
        used = processes.run(processes.prlm("eval", path, "--json"))
        assert msgspec.json.decode(used.stdout)["n"] == size
        figures.add(f"seconds_{name}", used.wall, "s")
        figures.add(f"peak_mb_{name}", used.peak_mb, "MB")


def _generations(pairs: Sequence[Pair]) -> Iterator[Generation]:
    draw = random.Random(0)
    n = 0
    while True:
        answer, target = pairs[n % len(pairs)]
        user = f"u{draw.randrange(5000)}"
        yield msgspec.structs.replace(BASE, query_id=f"q{n}", user_id=user, answer=answer, target=target)
        n += 1
