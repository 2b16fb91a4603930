"""One query in a fresh process, without the command line: by our library, or by bm25s over the user's texts alone.

    python oneshot.py prlm WORKSPACE USER TEXT
    python oneshot.py bm25s TEXTS.json TEXT

Both write the five best texts as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_K = 5


def with_prlm(workspace: str, user_id: str, text: str) -> list[str]:
    """The texts of the store's best documents."""
    from prlm_cli.core.records import Query
    from prlm_cli.core.settings import RetrievalSettings
    from prlm_cli.core.workspace import Workspace
    from prlm_cli.pipeline.retrieve import retrieve

    query = Query(query_id="q", user_id=user_id, text=text)
    with Workspace(Path(workspace)).open_store() as store:
        (found,) = retrieve(store, [query], RetrievalSettings(k=_K), seed=0)
    return [document.text for document in found.profile]


def with_bm25s(path: str, text: str) -> list[str]:
    """The best of the texts in a JSON file, by an index built for this query."""
    import bm25s
    from Stemmer import Stemmer

    stemmer = Stemmer("english")
    texts = json.loads(Path(path).read_bytes())
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stemmer=stemmer, show_progress=False), show_progress=False)
    words = bm25s.tokenize([text], stemmer=stemmer, show_progress=False, return_ids=False)
    found = index.retrieve(words, k=min(_K, len(texts)), show_progress=False)
    return [texts[number] for number in found.documents[0]]


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    json.dump(with_prlm(*arguments) if kind == "prlm" else with_bm25s(*arguments), sys.stdout)
