"""Which form of prompt suits a model: at small sizes the layout moves the score more than training does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from statistics import mean
from typing import NamedTuple

import msgspec

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Retrieved, with_records
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import LAYOUTS, Config, Layout
from prlm_cli.core.workspace import Workspace, read_json, write_text
from prlm_cli.metrics.rouge import rouge
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import Policy, load_policy, measured_layout, with_prompt

MEASURED_QUERIES = 64


class Form(NamedTuple):
    """A layout with a number of records, and the mean ROUGE-L that the untrained model reached with it."""

    layout: Layout
    k: int
    rouge_l: float


def resolve_prompt(workspace: Workspace, queries: Iterable[Retrieved], config: Config, reporter: Reporter) -> Config:
    """The configuration with `auto` replaced: reasoning by on, the layout by the model's best.

    The embedded model's is known. Any other's is measured once, on up to 64 training queries with the untrained model,
    and kept in the workspace's cache; without such queries it is `completion`.

    Raises:
        SettingsError: If the warm start is to imitate traces of reasoning, and prompts are to have none.
    """
    if config.warm_start.kind == "traces" and config.prompt.reasoning == "off":
        raise SettingsError(
            "traces of reasoning cannot be imitated with --reasoning off",
            hint="--reasoning on, or --warm-start answers",
        )
    reasoning = "on" if config.prompt.reasoning == "auto" else config.prompt.reasoning
    config = with_prompt(config, reasoning=reasoning)
    if config.prompt.layout != "auto":
        return config
    known = measured_layout(config.model.name)
    return with_prompt(config, layout=known or _measured(workspace, queries, config, reporter))


def measure_forms(
    policy: Policy, queries: Sequence[Retrieved], config: Config, *, ks: Sequence[int], reporter: Reporter
) -> list[Form]:
    """Each layout and number of records with the ROUGE-L it gives, best first.

    Args:
        policy: Usually the untrained model; it answers directly.
        queries: With targets, and at least as many records as the largest of `ks`; none that it is judged on.
        config: Prompt budget and decoding.
        ks: Numbers of records to try.
        reporter: Told about progress.
    """
    found = []
    for layout in LAYOUTS:
        formed = with_prompt(config, layout=layout, reasoning="off")
        writer = policy.with_prompt(formed.prompt)
        for k in ks:
            shown = [with_records(query, query.profile[:k]) for query in queries]
            answers = generate(
                shown, writer, formed, temperature=0.0, reporter=reporter, stage=f"layout {layout} k={k}"
            )
            found.append(Form(layout, k, mean(rouge(g.answer, g.target or "").rouge_l for g in answers)))
    return sorted(found, key=lambda form: -form.rouge_l)


def _measured(workspace: Workspace, queries: Iterable[Retrieved], config: Config, reporter: Reporter) -> Layout:
    sample = list(islice((query for query in queries if query.target), MEASURED_QUERIES))
    if not sample:
        return "completion"
    cache = workspace.cache / "layouts.json"
    known = read_json(cache) if cache.exists() else {}
    facts = [config.model, config.prompt.task, config.prompt.max_tokens, config.prompt.card, config.retrieval]
    key = hashlib.blake2b(msgspec.json.encode(facts), digest_size=8).hexdigest()
    if key not in known:
        reporter.note(f"measuring the layouts once for {config.model.name}")
        policy = load_policy(with_prompt(config, layout="completion", reasoning="off"), reporter=reporter)
        best = measure_forms(policy, sample, config, ks=[config.retrieval.k], reporter=reporter)[0]
        known[key] = best.layout
        write_text(cache, json.dumps(known, indent=2) + "\n")
    layout: Layout = known[key]
    return layout
