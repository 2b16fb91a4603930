"""`prlm generate`: personalised answers with their reasoning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import length_hint

from prlm_cli.core.records import Generation, Retrieved, Usage, widen
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config
from prlm_cli.engines import Completion
from prlm_cli.pipeline.completion_cache import CompletionCache
from prlm_cli.pipeline.policies import Beginning, Writer

_BATCHES_A_WINDOW = 4
_NOTHING = Beginning("", [])


def generate(
    queries: Iterable[Retrieved],
    policy: Writer,
    config: Config,
    *,
    temperature: float | None = None,
    reporter: Reporter | None = None,
    stage: str = "generate",
    cache: CompletionCache | None = None,
    draws: int = 1,
    beginnings: Mapping[str, Beginning] | None = None,
) -> Iterator[Generation]:
    """A generation for each retrieved record, in their order.

    Args:
        queries: Queries with their records, read as they are needed.
        policy: Who writes.
        config: Decoding; batch size and longest completion.
        temperature: Instead of the configured one.
        reporter: Told how many are done.
        stage: What the progress is called.
        cache: Of this policy; what it holds is not computed again, and it keeps what is.
        draws: How many of each, one after the other. A draw is seeded by the query's id and its number: it is the same
            in whatever batch, and among more draws.
        beginnings: Query id -> what its completion is made to begin with.

    Raises:
        SettingsError: If no query fits into a prompt.
    """
    engine = policy.engine(config, temperature=temperature)
    report = (reporter or Silent()).stage(stage)
    total = length_hint(queries) * draws
    stream = ((query, _key(query, draw)) for query in queries for draw in range(draws))
    done = 0
    # A window of several batches lets prompts of similar length share one; the first is small: results come soon.
    size = config.generation.batch_size
    while keyed := list(islice(stream, size)):
        window, keys = zip(*keyed, strict=True)
        packed = [policy.builder.build(query.text, query.profile, query.card) for query in window]
        begun = [_NOTHING if beginnings is None else beginnings[query.query_id] for query in window]
        ids = [prompt.ids + beginning.ids for prompt, beginning in zip(packed, begun, strict=True)]
        if cache is None:
            completing = engine.complete(ids, keys)
        else:
            completing = cache.complete(engine, window, ids, config.generation.batch_size, keys=keys)
        completions: dict[int, Completion] = {}
        for some in completing:
            completions.update(some)
            report(done + len(completions), total)
        done += len(window)
        for n, (query, prompt, beginning) in enumerate(zip(window, packed, begun, strict=True)):
            completion = completions[n]
            written = beginning.text + completion.text
            parsed = policy.builder.parse(written)
            yield widen(
                Generation,
                query,
                completion=written,
                reasoning=parsed.reasoning,
                answer=parsed.answer,
                policy=policy.name,
                seed=config.seed,
                usage=Usage(
                    prompt_tokens=len(prompt.ids),
                    completion_tokens=completion.tokens,
                    records=len(prompt.records),
                    records_cut=prompt.records_cut,
                    query_cut=prompt.query_cut,
                    truncated=completion.truncated,
                ),
            )
        size = config.generation.batch_size * _BATCHES_A_WINDOW


def _key(query: Retrieved, draw: int) -> str:
    """What a draw is seeded by, with the seed; the first one is that of a single completion."""
    return f"{query.query_id}#{draw}" if draw else query.query_id
