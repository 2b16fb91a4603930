"""How well a reward model tells a user's answers from another's, and how fast it scores.

    python -m tests.bench.reward [--json] [--data DIR] [--queries N] [--policy auto|none|warm-start] [--workspace DIR]

Indexes real histories, builds pairs and trains a reward model as `prlm train-reward` does, with the embedded model, and
judges it on held-out users beside the rules and its blind twin. The paper's preset is trained on the same pairs, on the
encoder that can be had everywhere. With `--workspace`, what is done there already is not done again. On one core it
takes two hours without the blind twin (`--set reward.twin=false`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.core.records import PreferencePair
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.models.scorer import Item
from prlm_cli.pipeline.evaluate_reward import evaluate_reward
from prlm_cli.pipeline.held_out import split_pairs
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.pair_scores import Part
from prlm_cli.pipeline.pairs import PAIRS
from prlm_cli.pipeline.reward_models import load_reward_model
from prlm_cli.pipeline.reward_quality import BLIND, ECHO, PartQuality, reward_quality
from prlm_cli.pipeline.train_reward import train_reward
from tests.bench.figures import Figures, ProgressLines, interleaved, progress, ratio, timed

SHARED = Path(__file__).parents[3] / "shared" / "data"
AIMS = {
    "swapped_accuracy": "≥ 0.92",
    "target_over_swapped_accuracy": "≥ 0.87",
    "interaction_accuracy_low": "> 0.5",
    "blind_interaction": "0",
    "ablated_accuracy": "≤ 0.6",
    "length_matched_gap": "≤ 0.05",
    "best_of_8_gain_low": "> 0",
    "score_speedup": "≥ 4",
}
_PAPER_ENCODER = "all-MiniLM-L6-v2"  # bert-base-uncased is not to be had everywhere
_BEST_OF = 8
_SCORED_PROMPTS, _ROUNDS = 64, 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints tables, or with `--json` JSON alone."""
    given = _parse(arguments)
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="prlm-bench-") as folder:
        workspace = Workspace(given.workspace or Path(folder))
        config = resolve(
            assignments=[
                "prompt.reasoning=off",
                f"pairs.policy={given.policy}",
                f"pairs.max_queries={given.queries}",
                *given.set,
            ],
            flags={"diagnostics.samples": given.samples},
        )
        measure(workspace, given.data, config, figures)
    sys.stdout.write(figures.as_json() + "\n" if given.json else figures.as_tables(AIMS, ()))


def measure(workspace: Workspace, data: Path, config: Config, figures: Figures) -> None:
    """Adds all figures of one data set."""
    if not workspace.index.exists():
        for split in ("train", "dev", "test"):
            index(workspace, [data / f"queries.{split}.jsonl"], split=split)
        index(workspace, [data / "profiles.jsonl"])
    run = _trained(workspace, config, "default", None, figures)
    pairs = list(jsonl.read(run.folder / PAIRS, PreferencePair))
    quality = evaluate_reward(workspace, run, config, reporter=ProgressLines())
    progress(quality.verdict)
    assert quality.users
    _add_quality(quality.users, figures)
    _add_paper(workspace, pairs, figures)
    _add_speed(load_reward_model(run, ProgressLines()), pairs, figures)


def _trained(
    workspace: Workspace, config: Config, name: str, pairs: list[PreferencePair] | None, figures: Figures
) -> Run:
    if (workspace.runs_folder / name / "state.json").exists() and (run := workspace.run(name)).is_finished:
        return run
    start = time.perf_counter()
    run = train_reward(workspace, config, pairs=pairs, name=name, reporter=ProgressLines())
    figures.add(f"{name}_seconds", time.perf_counter() - start, "s")
    return run


def _add_quality(part: PartQuality, figures: Figures) -> None:
    model, echo, ablation = part.model, part.controls[ECHO], part.ablation
    figures.add("heldout_users", part.users, "users")
    figures.add("swapped_accuracy", model.accuracy.kinds["own>swapped"].mean, "share")
    figures.add("target_over_swapped_accuracy", model.accuracy.kinds["target>swapped"].mean, "share")
    for kind, share in model.accuracy.kinds.items():
        figures.add(f"accuracy_{kind}", share.mean, "share")
        for control, judged in part.controls.items():
            figures.add(f"accuracy_{kind}_{control.replace(' ', '_')}", judged.accuracy.kinds[kind].mean, "share")
        figures.add(f"accuracy_{kind}_removed", ablation.removed.kinds[kind].mean, "share")
    figures.add("rule_swapped_accuracy", echo.accuracy.kinds["own>swapped"].mean, "share")
    figures.add("above_rule_low", part.above_echo.low, "share")
    assert model.interaction
    figures.add("interaction_accuracy", model.interaction.overall.mean, "share")
    figures.add("interaction_accuracy_low", model.interaction.overall.low, "share")
    if BLIND in part.controls:  # reward.twin=false trains none
        figures.add("twin_interaction", part.controls[BLIND].max_abs_interaction or 0.0, "logits")
    figures.add("ablated_accuracy", ablation.removed.kinds["own>swapped"].mean, "share")
    if part.length.gap is not None:
        figures.add("length_matched_gap", abs(part.length.gap), "share")
        figures.add("length_matched_gap_within_kinds", abs(part.length.gap_within_kinds or 0.0), "share")
    figures.add("calibration_error", part.calibration.ece, "share")
    if part.within_query:
        figures.add("within_query_spearman", part.within_query.spearman.mean, "rho")
    if part.best_of_n:
        for best in part.best_of_n.curve:
            figures.add(f"best_of_{best.n}_rouge_l", best.rouge_l, "ROUGE-L")
            figures.add(f"best_of_{best.n}_oracle_rouge_l", best.oracle, "ROUGE-L")
        at = next(best for best in part.best_of_n.curve if best.n == _BEST_OF)
        figures.add("best_of_8_gain", at.gain.mean, "ROUGE-L")
        figures.add("best_of_8_gain_low", at.gain.low, "ROUGE-L")
        figures.add("oracle_share", at.oracle_share or 0.0, "share")


def _add_paper(workspace: Workspace, pairs: list[PreferencePair], figures: Figures) -> None:
    """The paper's preset, blind to the profile, trained on those of the same pairs that it knows."""
    config = resolve(preset="paper", flags={"reward.model": _PAPER_ENCODER})
    own = [pair for pair in pairs if pair.kind in config.pairs.kinds]
    run = _trained(workspace, config, "paper", own, figures)
    held_out = split_pairs(pairs, config.reward).heldout_users
    judged = reward_quality(load_reward_model(run, ProgressLines()), users=Part(held_out), queries=Part([])).users
    assert judged and judged.model.max_abs_interaction is not None
    figures.add("blind_interaction", judged.model.max_abs_interaction, "logits")
    for kind, share in judged.model.accuracy.kinds.items():
        figures.add(f"accuracy_{kind}_paper", share.mean, "share")


def _add_speed(model: RewardModel, pairs: Sequence[PreferencePair], figures: Figures) -> None:
    """Scores 512 candidates, eight of each query, at once and in a plain loop of single forward passes."""
    by_query: dict[str, PreferencePair] = {}
    answers: dict[str, dict[str, None]] = {}
    for pair in pairs:
        by_query.setdefault(pair.query_id, pair)
        answers.setdefault(pair.query_id, {}).update(dict.fromkeys((pair.chosen, pair.rejected)))
    everybody = [answer for own in answers.values() for answer in own]
    asked = []
    for n, pair in enumerate(list(by_query.values())[:_SCORED_PROMPTS]):
        of_others = (everybody[(7 * n + m) % len(everybody)] for m in range(len(everybody)))
        chosen = list(dict.fromkeys([*answers[pair.query_id], *of_others]))[:_BEST_OF]
        asked.append([Item(pair.text, pair.profile, answer) for answer in chosen])
    taken: dict[str, list[float]] = {"at_once": [], "loop": []}
    for n in range(_ROUNDS):
        items = [item for of_query in asked[n::_ROUNDS] for item in of_query]
        measures = {"at_once": timed(partial(model.scores, items)), "loop": timed(partial(_one_by_one, model, items))}
        for name, seconds in interleaved(1, measures).items():
            taken[name] += seconds
    figures.add("scored_candidates", sum(map(len, asked)), "candidates")
    for name, seconds in taken.items():
        figures.add(f"score_ms_{name}", 1000 * sum(seconds) / sum(map(len, asked)), "ms a candidate")
    figures.add("score_speedup", ratio(taken["loop"], taken["at_once"]), "x")


def _one_by_one(model: RewardModel, items: Sequence[Item]) -> list[float]:
    return [model.scores([item])[0] for item in items]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reward", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON alone on stdout")
    parser.add_argument("--data", default="commits", help="commits, acl, or a folder of histories and queries")
    parser.add_argument("--queries", type=int, default=160, help="training queries to build pairs of")
    parser.add_argument("--samples", type=int, default=_BEST_OF, help="completions drawn for each held-out query")
    parser.add_argument("--policy", default="auto", help="who writes the answers: auto, none or warm-start")
    parser.add_argument("--workspace", type=Path, help="a folder to work in, and to go on in")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    given = parser.parse_args(arguments)
    given.data = SHARED / given.data if (SHARED / given.data).is_dir() else Path(given.data)
    if not (given.data / "profiles.jsonl").exists():
        parser.error(f"no profiles.jsonl in {given.data}")
    return given


if __name__ == "__main__":
    main()
