"""`prlm score`: the reward model's score of each generation, by the same code as the reward in training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.models.scorer import Item
from prlm_cli.pipeline.reward_models import folders_of, load_reward_model
from prlm_cli.pipeline.score_cache import ScoreCache

_FIRST_WINDOW, _WINDOW = 32, 512  # generations read ahead; the first are few, so that results come soon


def score(
    workspace: Workspace,
    generations: Iterable[Generation],
    *,
    reward_model: str | None = None,
    reporter: Reporter | None = None,
) -> Iterator[Generation]:
    """Each generation with its `reward` in [0, 1], in their order; None where it has no answer.

    Its records are taken as they are given. What was scored before is looked up in the workspace's cache.

    Args:
        workspace: Where the reward model lies.
        generations: Read as they are needed.
        reward_model: A finished run; default: the newest. Its gate is not asked.
        reporter: Told how many are done.

    Raises:
        DataError: If there is no such reward model.
        StorageError: If the reward model is damaged, or the cache cannot be written.
    """
    reporter = reporter or Silent()
    run = workspace.finished_run(reward_model, "reward") if reward_model else workspace.latest("reward")
    if run is None:
        raise DataError(f"no reward model in {workspace.folder}", hint="run `prlm train-reward` first")
    stream = iter(generations)
    window = list(islice(stream, _FIRST_WINDOW))
    if not window:  # and what is wrong with the first ones is known before a model loads
        return
    model = load_reward_model(run, reporter)
    report, done = reporter.stage("score"), 0
    with ScoreCache(workspace.cache / f"scores-{_fingerprint(run, reporter)}.sqlite") as cache:
        while window:
            for generation, reward in zip(window, _rewards(model, window, cache), strict=True):
                yield msgspec.structs.replace(generation, reward=reward)
            done += len(window)
            report(done)
            window = list(islice(stream, _WINDOW))


def _rewards(model: RewardModel, window: Sequence[Generation], cache: ScoreCache) -> list[float | None]:
    items = [Item(g.text, g.profile, g.answer) for g in window if g.answer is not None]
    inputs = model.encode(items)
    logits = cache.known(inputs)
    new = [encoded for encoded in dict.fromkeys(inputs) if encoded not in logits]
    scored = dict(zip(new, model.scores_of(new), strict=True))
    cache.keep(scored)
    logits |= scored
    rewards = iter([model.reward(logits[encoded]) for encoded in inputs])
    return [None if generation.answer is None else next(rewards) for generation in window]


def _fingerprint(run: Run, reporter: Reporter) -> str:
    """Of what a score hangs on, the input aside: the run's settings and weights, and the model these sit on."""
    from prlm_cli.models.loading import fingerprint_of

    trained, *bases = folders_of(run, reporter)
    # Reading gigabytes takes longer than most calls: for a base model, sizes and times will do.
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for base in bases for path in base.iterdir()]
    facts = [fingerprint_of(trained), run.config, sorted(stats)]
    return hashlib.blake2b(msgspec.json.encode(facts), digest_size=8).hexdigest()
