"""`prlm score --author`: whether a classifier of each user's titles against others' recognises the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from prlm_cli.core.records import Generation
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.author_titles import AuthorTitles, read_pool
from prlm_cli.pipeline.windows import windows
from prlm_cli.rewards.author import recognised

_WINDOW = 128  # generations read ahead; a classifier takes some tenths of a second


def recognise(
    workspace: Workspace, generations: Iterable[Generation], *, seed: int = 0, reporter: Reporter | None = None
) -> Iterator[Generation]:
    """Each generation with its `author` in [0, 1], in their order: the reward of that name.

    It learns from titles of the index that are older than the query, the others' from users drawn at random. Nothing
    of it is stored.

    Args:
        workspace: With the users' histories.
        generations: Read as they are needed.
        seed: Of the draws.
        reporter: Told how many are done.

    Raises:
        DataError: If there is no index, or a query's date is none.
    """
    report, done = (reporter or Silent()).stage("author"), 0
    settings = RetrievalSettings()
    with workspace.open_store() as store:
        pool = read_pool(store, store.users(), seed=seed)
        for window in windows(generations, _WINDOW):
            titles = AuthorTitles(store, window, pool, settings, seed=seed)
            found = recognised([generation.answer for generation in window], window, titles)
            for generation, author in zip(window, found, strict=True):
                yield msgspec.structs.replace(generation, author=author)
            done += len(window)
            report(done)
