"""The warm start `star`: a policy's best samples, which are then imitated. Nobody annotated their reasoning.

Source: Zelikman et al., STaR (arXiv 2203.14465). It differs from that in this:

1. Answers are texts, not right or wrong. A sample is worth its overlap with what the user wrote; the best one of each
   query is kept if it is worth more than what the policy writes greedily, so that there is something to learn from it.
2. Nothing is rationalised: no sample is drawn with the target in sight.
3. One round. For another, the run that came of it draws the samples (`warm_start.policy`); as there, training begins
   from the base model again.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

from prlm_cli.core.errors import DataError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Generation, Retrieved
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.metrics.rouge import rouge
from prlm_cli.pipeline.best_of_n import sample
from prlm_cli.pipeline.candidates import spread
from prlm_cli.pipeline.completion_cache import completion_cache
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import check_prompts, load_policy


class BestSamples(NamedTuple):
    """The samples worth imitating, at most one a query, and how the drawing went.

    Scores are means, in [0, 1]: of all samples, of the greedy answers, and of the samples that were kept.
    """

    kept: list[Generation]
    queries: int
    samples: int
    sample_score: float
    greedy_score: float
    kept_score: float

    @property
    def figures(self) -> dict[str, float]:
        """All but the samples themselves."""
        return {name: value for name, value in self._asdict().items() if name != "kept"}


def best_samples(
    workspace: Workspace, queries: Sequence[Retrieved], config: Config, writer: Run | None, reporter: Reporter
) -> BestSamples:
    """The samples to imitate; what was drawn before an interruption is read from the cache of completions.

    Args:
        workspace: Where the cache is.
        queries: With their records and targets.
        config: How many queries and samples, their temperature, decoding and seed.
        writer: The run that draws them; without one, the untrained model.
        reporter: Told about progress.

    Raises:
        DataError: If no sample is worth more than the greedy answer to its query.
        SettingsError: If the writer was trained with other prompts.
    """
    settings = config.warm_start
    asked = spread(queries, settings.max_queries, config.seed)
    policy = load_policy(config, run=writer, reporter=reporter)
    check_prompts(writer, policy.builder)
    with completion_cache(workspace, policy, reporter) as cache:
        stage = "star: greedy answers"
        greedy = list(generate(asked, policy, config, temperature=0.0, reporter=reporter, stage=stage, cache=cache))
        drawn = sample(
            asked, policy, config, settings.samples, temperature=settings.temperature, reporter=reporter, cache=cache
        )
    found = choose(greedy, drawn, policy.builder)
    if not found.kept:
        hint = "raise warm_start.samples or temperature, or use --warm-start answers or traces"
        raise DataError(f"star: none of {found.samples} samples is worth more than the greedy answer", hint=hint)
    return found


def choose(greedy: Sequence[Generation], drawn: Sequence[Sequence[Generation]], builder: PromptBuilder) -> BestSamples:
    """The best sample of each query, if it is worth more than the greedy answer; the first of equals.

    Args:
        greedy: One generation a query.
        drawn: The samples of each.
        builder: Of their prompts.
    """
    floors = [_worth(generation, builder) for generation in greedy]
    worth = [[_worth(generation, builder) for generation in samples] for samples in drawn]
    best = [max(range(len(scores)), key=scores.__getitem__) for scores in worth]
    kept = [n for n, floor in enumerate(floors) if worth[n][best[n]] > floor]
    scores = [score for of_query in worth for score in of_query]
    return BestSamples(
        kept=[drawn[n][best[n]] for n in kept],
        queries=len(greedy),
        samples=len(scores),
        sample_score=mean(scores),
        greedy_score=mean(floors),
        kept_score=mean(worth[n][best[n]] for n in kept) if kept else 0.0,
    )


def _worth(generation: Generation, builder: PromptBuilder) -> float:
    """The mean of ROUGE-1, 2 and L against the target, in [0, 1]; 0 where the form is wrong or the end is missing."""
    is_cut_off = generation.usage is not None and generation.usage.truncated
    if is_cut_off or not builder.is_well_formed(generation.completion):
        return 0.0
    return mean(rouge(generation.answer, generation.target or ""))
