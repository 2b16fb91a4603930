"""The strongest baseline without training: the untrained model in its best layout with its best number of records.

A gain over a model that was badly asked is none: at small sizes the form of the prompt moves the score more than
training does. The form is chosen on other queries than those that it is judged on.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Query, Retrieved
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.candidates import spread
from prlm_cli.pipeline.completion_cache import completion_cache
from prlm_cli.pipeline.conditions import Condition, ConditionResult, Conditions, answered, compared
from prlm_cli.pipeline.layouts import MEASURED_QUERIES, measure_forms
from prlm_cli.pipeline.policies import ChosenPolicy, load_policy, with_prompt
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve

_KS = (0, 2, 4, 8)
_CHOSEN_ON = ("dev", "train")


def against_best_untrained(
    workspace: Workspace,
    store: Store,
    queries: Sequence[Retrieved],
    chosen: ChosenPolicy,
    config: Config,
    reporter: Reporter | None = None,
) -> Conditions:
    """The policy compared with the untrained model in its best form; that one is the reference.

    Args:
        workspace: With a cache of completions.
        store: The index.
        queries: To judge both on, with the records of the policy's own settings.
        chosen: The policy under test.
        config: Its configuration.
        reporter: Told about progress, and which form is the best.

    Raises:
        DataError: If the index holds no other queries with a target to choose the form on.
    """
    reporter = reporter or Silent()
    best = _best_untrained(workspace, store, queries, config, reporter)
    policy = chosen.load(reporter)  # only now: one model in memory at a time
    with completion_cache(workspace, policy, reporter) as cache:
        own = answered(Condition(policy.name, queries), policy, config, reporter=reporter, cache=cache)
    return compared([best, own], best.name, config)


def _best_untrained(
    workspace: Workspace, store: Store, queries: Sequence[Retrieved], config: Config, reporter: Reporter
) -> ConditionResult:
    direct = with_prompt(config, layout="completion", reasoning="off")
    asked = _choosing_queries(store, queries, config)
    untrained = load_policy(direct, reporter=reporter)
    most = structs.replace(config.retrieval, k=max(_KS))
    others = list(retrieve(store, asked, most, prompt=config.prompt, seed=config.seed))
    layout, k, score = measure_forms(untrained, others, direct, ks=_KS, reporter=reporter)[0]
    reporter.note(f"best untrained: layout {layout}, k={k} (ROUGE-L {score:.3f} on {len(others)} other queries)")
    formed = with_prompt(direct, layout=layout)
    fewer = structs.replace(config.retrieval, k=k)
    shown = list(retrieve(store, queries, fewer, prompt=config.prompt, seed=config.seed))
    facts = {"layout": layout, "k": k}
    condition = Condition(f"untrained, {layout}, k={k}", shown, facts=facts, prompt=formed.prompt)
    with completion_cache(workspace, untrained, reporter) as cache:
        return answered(condition, untrained, formed, reporter=reporter, cache=cache)


def _choosing_queries(store: Store, queries: Sequence[Retrieved], config: Config) -> list[Query]:
    """Some queries with a target that are not among those judged: of dev, or else of train."""
    judged = {(query.user_id, query.query_id) for query in queries}
    for split in _CHOSEN_ON:
        asked = (query for query in stored_queries(store, split) if query.target)
        others = [query for query in asked if (query.user_id, query.query_id) not in judged]
        if others:
            return spread(others, MEASURED_QUERIES, config.seed)
    raise DataError("no dev or training queries to choose a baseline on", hint="index some, with their targets")
