"""Whether policy training learns: arms of training against the start of each, on held-out queries, over seeds.

    python -m tests.bench.learning [--json] [--data DIR] [--arms NAME,…] [--seeds N] [--workspace DIR] [--set KEY=VALUE]
    python -m tests.bench.learning --arm hot,grpo,policy.temperature=1.0

Arms: `untrained` is the base model in the layout and with the number of records that measured best on training queries;
`warm_start` the supervised pass that `warm_start_grpo` begins with; `half` half a pass, and `half_grpo` goes on from it
on the other half of the queries, with more and hotter samples; `grpo` begins with the untrained model; `traces` and
`traces_grpo` are `half` and GRPO from there with reasoning. `--arm NAME,ARM,KEY=VALUE,…` adds one: an arm under other
settings.

Each arm answers all dev queries greedily, with the users' own records and with those of another user drawn at random.
Differences are paired by query, of the means over the seeds, with intervals clustered by user. With `--workspace`, what
is done there already is not done again. A seed of all arms takes hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from prlm_cli.core.configuration import resolve
from prlm_cli.core.records import Generation, Retrieved
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.metrics.intervals import paired_interval
from prlm_cli.pipeline.candidates import spread
from prlm_cli.pipeline.completion_cache import completion_cache
from prlm_cli.pipeline.conditions import Condition, answered
from prlm_cli.pipeline.controls import profile_controls
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.layouts import MEASURED_QUERIES, measure_forms
from prlm_cli.pipeline.policies import Policy, load_policy, with_prompt
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.pipeline.training_set import training_queries
from prlm_cli.pipeline.warm_start import warm_start
from tests.bench.figures import Figures, ProgressLines, progress
from tests.bench.reward import SHARED

_UNTRAINED, _WARM_START = "untrained", "warm_start"
_METRICS = ("rougeL", "copy_rate", "extract_fail")
_SHARED_THOUGHTS = "shared_thoughts"
_PROFILES = ("own", "swapped")
_KS = (0, 2, 4, 8)
_COMMON = (
    "prompt.task=subjects",
    "prompt.layout=completion",
    "prompt.max_tokens=512",
    "policy.reward_model=none",
    "policy.prompts_per_step=4",
    "policy.steps=67",
    "policy.temperature=0.6",
    "policy.eval_queries=0",
    "warm_start.steps=212",
    "warm_start.learning_rate=3e-4",
)


class Arm(NamedTuple):
    """How a policy is trained: the settings, and the arm that this training begins with."""

    settings: tuple[str, ...]
    start: str
    warm_start_alone: bool = False


_DIRECT = (*_COMMON, "prompt.reasoning=off")
_HALF = (*_DIRECT, "warm_start.kind=answers", "warm_start.steps=106")
_TRACES = (*_COMMON, "prompt.reasoning=on", "warm_start.kind=traces", "warm_start.steps=106")
ARMS = {
    _WARM_START: Arm((*_DIRECT, "warm_start.kind=answers"), _UNTRAINED, warm_start_alone=True),
    "grpo": Arm((*_DIRECT, "warm_start.kind=none"), _UNTRAINED),
    "warm_start_grpo": Arm((*_DIRECT, "warm_start.kind=answers"), _WARM_START),
    "half": Arm(_HALF, _UNTRAINED, warm_start_alone=True),
    "half_grpo": Arm((*_HALF, "policy.num_generations=16", "policy.temperature=0.8"), "half"),
    "traces": Arm(_TRACES, _UNTRAINED, warm_start_alone=True),
    "traces_grpo": Arm((*_TRACES, "policy.temperature=0.8"), "traces"),
}


class Learning:
    """The arms trained and judged in one workspace.

    Args:
        workspace: Holds the index, the runs and the answers.
        arms: By name.
        overrides: Settings over those of every arm.
        limit: Dev queries to judge on; None takes all.
    """

    def __init__(self, workspace: Workspace, arms: dict[str, Arm], overrides: Sequence[str], limit: int | None) -> None:
        self._workspace = workspace
        self._arms = arms
        self._overrides = overrides
        self._limit = limit
        self._answers: dict[tuple[str, int], dict[str, dict[str, list[float]]]] = {}

    def add_arm(self, name: str, seeds: Iterable[int], figures: Figures) -> None:
        """Adds what an arm reached in the mean over the seeds, and its difference to where it began."""
        over_seeds = [self._judged(name, seed) for seed in seeds]
        for seed, judged in zip(seeds, over_seeds, strict=True):
            figures.add(f"{name}_rouge_l_seed_{seed}", mean(judged["own"]["rougeL"]), "ROUGE-L")
        for profile in _PROFILES:
            figures.add(f"{name}_{profile}_rouge_l", _mean(j[profile]["rougeL"] for j in over_seeds), "ROUGE-L")
        for metric in (*_METRICS[1:], _SHARED_THOUGHTS):
            figures.add(f"{name}_{metric}", _mean(j["own"][metric] for j in over_seeds), "share")
        for over in dict.fromkeys((self._arms[name].start, _UNTRAINED)) if name != _UNTRAINED else ():
            base = [self._judged(over, seed)["own"]["rougeL"] for seed in seeds]
            ours = [judged["own"]["rougeL"] for judged in over_seeds]
            gain = paired_interval(_by_query(ours), _by_query(base), [query.user_id for query in self._dev])
            for end, value in (("", gain.mean), ("_low", gain.low), ("_high", gain.high)):
                figures.add(f"{name}_over_{over}{end}", value, "ROUGE-L")

    def _judged(self, name: str, seed: int) -> dict[str, dict[str, list[float]]]:
        """Of each profile, each metric: its values by dev query."""
        seed = 0 if name == _UNTRAINED else seed  # greedy: the same for every seed
        if (name, seed) not in self._answers:
            policy, config, queries = self._policy(name, seed)
            self._answers[name, seed] = self._judge(policy, config, queries)
            for profile, scores in self._answers[name, seed].items():
                progress(f"{name}, seed {seed}, {profile}: ROUGE-L {mean(scores['rougeL']):.4f}")
        return self._answers[name, seed]

    def _policy(self, name: str, seed: int) -> tuple[Policy, Config, list[Retrieved]]:
        if name == _UNTRAINED:
            config = self._untrained
            return load_policy(config, reporter=ProgressLines()), config, self._retrieved(config)
        arm = self._arms[name]
        config = resolve(assignments=[*arm.settings, *self._overrides, f"seed={seed}"])
        run = self._warm_start(config) if arm.warm_start_alone else self._trained(f"{name}-{seed}", config)
        return load_policy(config, run=run, reporter=ProgressLines()), config, self._retrieved(config)

    def _trained(self, name: str, config: Config) -> Run:
        if (self._workspace.runs_folder / name / "state.json").exists():
            run = self._workspace.run(name)
            if run.is_finished:
                return run
        return train_policy(self._workspace, config, name=name, reporter=ProgressLines())

    def _warm_start(self, config: Config) -> Run:
        with self._workspace.open_store() as store:
            queries = training_queries(store, config)
        return warm_start(self._workspace, queries, config, config.warm_start.kind, ProgressLines())

    def _retrieved(self, config: Config) -> list[Retrieved]:
        with self._workspace.open_store() as store:
            return list(retrieve(store, self._dev, config.retrieval, prompt=config.prompt, seed=0))

    def _judge(self, policy: Policy, config: Config, queries: list[Retrieved]) -> dict[str, dict[str, list[float]]]:
        config = resolve(base=config, flags={"eval.metrics": list(_METRICS), "seed": 0})  # the same stand-ins for all
        found = {}
        with self._workspace.open_store() as store, completion_cache(self._workspace, policy, ProgressLines()) as cache:
            shown = {condition.name: condition.queries for condition in profile_controls(store, queries, config)}
            for profile in _PROFILES:
                condition = Condition(profile, shown[profile] or queries)  # without records there is nothing to swap
                result = answered(condition, policy, config, cache=cache, reporter=ProgressLines())
                scores = {metric: result.evaluation.scores[metric] for metric in _METRICS}
                scores[_SHARED_THOUGHTS] = _shared_thoughts(result.generations)
                found[profile] = {metric: [value or 0.0 for value in values] for metric, values in scores.items()}
        return found

    @cached_property
    def _dev(self) -> list[Retrieved]:
        with self._workspace.open_store() as store:
            queries = [query for query in stored_queries(store, "dev") if query.target]
            return list(retrieve(store, queries[: self._limit], resolve().retrieval, seed=0))

    @cached_property
    def _untrained(self) -> Config:
        """The untrained model's best form, measured once on training queries."""
        config = resolve(assignments=[*_DIRECT, *self._overrides])
        path = self._workspace.folder / "best-form.json"
        if not path.exists():
            with self._workspace.open_store() as store:
                asked = spread([q for q in stored_queries(store, "train") if q.target], MEASURED_QUERIES, 0)
                most = resolve(base=config, flags={"retrieval.k": max(_KS)})
                queries = list(retrieve(store, asked, most.retrieval, seed=0))
            untrained = load_policy(config, reporter=ProgressLines())
            best, *others = measure_forms(untrained, queries, config, ks=_KS, reporter=ProgressLines())
            progress(f"best form {best}; others {others}")
            path.write_text(json.dumps({"layout": best.layout, "k": best.k}))
        best_form = json.loads(path.read_text())
        return with_prompt(resolve(base=config, flags={"retrieval.k": best_form["k"]}), layout=best_form["layout"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and judges, and prints tables, or with `--json` JSON alone."""
    given = _parse(arguments)
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="prlm-bench-") as folder:
        workspace = Workspace(given.workspace or Path(folder))
        if not workspace.index.exists():
            for split in ("train", "dev"):
                index(workspace, [given.data / f"queries.{split}.jsonl"], split=split)
            index(workspace, [given.data / "profiles.jsonl"])
        learning = Learning(workspace, given.all_arms, given.set, given.limit)
        for name in (_UNTRAINED, *given.arms):
            learning.add_arm(name, range(given.first_seed, given.first_seed + given.seeds), figures)
    sys.stdout.write(figures.as_json() + "\n" if given.json else figures.as_tables({}, ()))


def _shared_thoughts(generations: Sequence[Generation]) -> list[float | None]:
    """1.0 for a thought that another query got as well, word for word, else 0.0; None where there is none."""
    written = Counter(generation.reasoning for generation in generations)
    return [None if g.reasoning is None else float(written[g.reasoning] > 1) for g in generations]


def _by_query(over_seeds: Sequence[Sequence[float]]) -> list[float]:
    return [mean(values) for values in zip(*over_seeds, strict=True)]


def _mean(over_seeds: Iterable[Sequence[float]]) -> float:
    return mean(mean(values) for values in over_seeds)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.learning", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON alone on stdout")
    parser.add_argument("--data", default="commits", help="commits, acl, or a folder of histories and queries")
    parser.add_argument("--arms", help=f"of {', '.join(ARMS)} and those of --arm; default: all", default="")
    parser.add_argument("--arm", action="append", default=[], metavar="NAME,ARM,KEY=VALUE,…", help="one more arm")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="dev queries to judge on; default: all")
    parser.add_argument("--workspace", type=Path, help="a folder to work in, and to go on in")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all arms")
    given = parser.parse_args(arguments)
    given.data = SHARED / given.data if (SHARED / given.data).is_dir() else Path(given.data)
    given.all_arms = dict(ARMS)
    for spec in given.arm:
        name, base, *settings = spec.split(",")
        given.all_arms[name] = ARMS[base]._replace(settings=(*ARMS[base].settings, *settings))
    given.arms = given.arms.split(",") if given.arms else list(given.all_arms)
    if not (given.data / "profiles.jsonl").exists():
        parser.error(f"no profiles.jsonl in {given.data}")
    return given


if __name__ == "__main__":
    main()
