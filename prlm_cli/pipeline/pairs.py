"""`prlm pairs`: contrastive pairs from real answers, which the reward model learns from.

For each training query there are answers of several kinds (`candidates`); a kind of pair, such as "own>swapped", says
which is chosen over which. Both answers of a pair are to the same query, beside the same records of its own user.

Differs from PrLM's (arXiv 2508.07342), whose only kind is "own>zero_shot": answers that are equal are no pair, and the
lengths of the others are balanced (`length_balance`).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import PreferencePair, Query, Retrieved
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config, PairsSettings
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.pipeline.candidates import OF_ANOTHER, Answer, Candidates, candidates, write_answers
from prlm_cli.pipeline.completion_cache import CompletionCache, completion_cache
from prlm_cli.pipeline.layouts import resolve_prompt
from prlm_cli.pipeline.length_balance import balanced
from prlm_cli.pipeline.policies import Policy, load_policy, with_prompt
from prlm_cli.pipeline.training_set import training_queries
from prlm_cli.pipeline.warm_start import reasons_by_itself, warm_start, warm_start_kind

PAIRS = "pairs.jsonl"
_NOBODY: list[Answer | None] = [None]
_REASONS = {
    "equal": "with equal answers",
    "unreadable": "without a readable answer",
    "alone": "with nobody to stand in",
    "length": "to balance the lengths",
}


class BuiltPairs(NamedTuple):
    """The pairs, and of each kind how many were left out, by reason.

    Both answers were "equal", one was "unreadable", nobody was near or had records to stand in ("alone"), or it had to
    go for the balance of "length".
    """

    pairs: list[PreferencePair]
    left_out: dict[str, dict[str, int]]

    def as_dict(self) -> dict[str, Any]:
        """The counts, as JSON takes them."""
        counts = Counter(pair.kind for pair in self.pairs)
        return {
            "pairs": len(self.pairs),
            "queries": len({pair.query_id for pair in self.pairs}),
            "users": len({pair.user_id for pair in self.pairs}),
            "kinds": {kind: {"pairs": counts[kind], **reasons} for kind, reasons in self.left_out.items()},
        }


def pairs(
    workspace: Workspace,
    config: Config,
    *,
    queries: Iterable[Query] | None = None,
    resume: bool = True,
    reporter: Reporter | None = None,
) -> BuiltPairs:
    """The contrastive pairs of training queries, those that `train_reward` would build.

    Args:
        workspace: With an index.
        config: The resolved settings.
        queries: Instead of the index's training split.
        resume: Use the completions that are in the workspace's cache, and keep new ones there.
        reporter: Told about progress and what was left out.

    Raises:
        DataError: If there are no queries with records, another user is needed and there is none, or no pair has a
            contrast.
        SettingsError: If all kinds of pairs need another user, and none is to, or settings do not go together.
    """
    reporter = reporter or Silent()
    with workspace.open_store() as store:
        training = training_queries(store, config, queries)
        config = resolve_prompt(workspace, training, config, reporter)
        return _pairs_of(workspace, store, training, config, reporter, resume=resume)


def pairs_for(
    run: Run, workspace: Workspace, store: Store, queries: Sequence[Retrieved], config: Config, reporter: Reporter
) -> list[PreferencePair]:
    """The pairs of a run: read back where it was interrupted after they were built.

    Args:
        run: The run that learns from them, and keeps them.
        workspace: Where it is.
        store: The index.
        queries: Training queries with their records.
        config: The resolved settings, those of the prompt included.
        reporter: Told about progress and what was left out.

    Raises:
        DataError: As `pairs`.
        SettingsError: As `pairs`.
    """
    path = run.folder / PAIRS
    if not path.exists():
        jsonl.write(path, _pairs_of(workspace, store, queries, config, reporter, resume=True).pairs)
    return list(jsonl.read(path, PreferencePair))


def build_pairs(
    asked: Sequence[Candidates],
    policy: Policy,
    config: Config,
    reporter: Reporter,
    cache: CompletionCache | None = None,
) -> BuiltPairs:
    """The pairs of candidates, query by query.

    Args:
        asked: From `candidates`.
        policy: Who writes, greedily.
        config: Which kinds of pairs, and decoding.
        reporter: Told about progress and what was left out.
        cache: Of the policy's completions.

    Raises:
        DataError: If no pair has a contrast.
    """
    kinds = kinds_in_use(config.pairs)
    left_out = {kind: dict.fromkeys(_REASONS, 0) for kind in kinds}
    found = []
    for query, answers in write_answers(asked, policy, config, reporter, cache):
        for kind in kinds:
            for chosen, rejected in zip_longest(*(answers.get(name, _NOBODY) for name in kind.split(">"))):
                if reason := _why_not(chosen, rejected):
                    left_out[kind][reason] += 1
                elif chosen and rejected:
                    found.append(_pair(query, kind, chosen, rejected))
    kept = balanced(found, config.pairs.length_skew)
    for kind, count in (Counter(pair.kind for pair in found) - Counter(pair.kind for pair in kept)).items():
        left_out[kind]["length"] = count
    why = _in_words(left_out)
    if not kept:
        hint = "use more queries, other pairs.kinds or another pairs.policy"
        raise DataError(f"no pair has a contrast: {why}", hint=hint)
    reporter.note(f"{len(kept)} pairs" + (f"; left out: {why}" if why else ""))
    return BuiltPairs(kept, left_out)


def kinds_in_use(settings: PairsSettings) -> list[str]:
    """The kinds of pairs to build, each once.

    Raises:
        SettingsError: If none is left without those that need another user.
    """
    kinds = [kind for kind in dict.fromkeys(settings.kinds) if settings.swapped or not OF_ANOTHER & {*kind.split(">")}]
    if not kinds:
        raise SettingsError("pairs.kinds: all of them need another user", hint="name others, or pairs.swapped=true")
    return kinds


def normalised(answer: str) -> str:
    """What two answers that are the same, but for case and white space, share."""
    return " ".join(answer.lower().split())


def _pairs_of(
    workspace: Workspace,
    store: Store,
    queries: Sequence[Retrieved],
    config: Config,
    reporter: Reporter,
    *,
    resume: bool,
) -> BuiltPairs:
    kinds = {name for kind in kinds_in_use(config.pairs) for name in kind.split(">")}
    asked = candidates(store, queries, kinds, config)  # what is wrong with the queries is known before a model loads
    policy = pair_policy(workspace, queries, config, reporter)
    with completion_cache(workspace, policy, reporter) if resume else contextlib.nullcontext() as cache:
        return build_pairs(asked, policy, config, reporter, cache)


def pair_policy(workspace: Workspace, queries: Sequence[Retrieved], config: Config, reporter: Reporter) -> Policy:
    """Who writes the answers of the pairs; a warm start, where the settings ask for one, learns from the queries.

    `auto` is the warm start where it answers without reasoning. There it wrote better answers for users that were held
    out (ROUGE-L of a sample .367, untuned .280; commits), and the reward model was worth more as a chooser among them.
    A thought before each answer would cost several times as much, and was not measured: there it is the untuned model.
    """
    name = config.pairs.policy
    if name == "auto":
        name = "warm-start" if config.prompt.reasoning == "off" else "none"
    if name not in ("warm-start", "none"):
        run = workspace.finished_run(name, "policy")
        return load_policy(resolve(config_file=run.folder / "config.toml"), run=run, reporter=reporter)
    if name == "warm-start":
        kind = warm_start_kind(config, reasons_by_itself=reasons_by_itself(config, reporter))
        if kind != "none":
            run = warm_start(workspace, list(queries), config, kind, reporter)
            return load_policy(config, run=run, reporter=reporter)
    return load_policy(with_prompt(config, reasoning="off"), reporter=reporter)


def _why_not(chosen: Answer | None, rejected: Answer | None) -> str | None:
    """Why two answers are no pair; None if they are one."""
    if chosen is None or rejected is None:
        return "alone"
    if not (chosen.text and rejected.text):
        return "unreadable"
    return "equal" if normalised(chosen.text) == normalised(rejected.text) else None


def _pair(query: Retrieved, kind: str, chosen: Answer, rejected: Answer) -> PreferencePair:
    return PreferencePair(
        query_id=query.query_id,
        user_id=query.user_id,
        kind=kind,
        text=query.text,
        profile=query.profile,
        chosen=chosen.text or "",
        rejected=rejected.text or "",
        swapped_user_id=rejected.user_id,
        swapped_profile=list(rejected.profile),
        swapped_query_id=rejected.query_id,
        target=query.target,
    )


def _in_words(left_out: Mapping[str, Mapping[str, int]]) -> str:
    counts = {reason: sum(reasons[reason] for reasons in left_out.values()) for reason in _REASONS}
    return ", ".join(f"{count} {_REASONS[reason]}" for reason, count in counts.items() if count)
