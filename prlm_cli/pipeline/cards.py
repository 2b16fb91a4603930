"""Profile cards: a line of habits, counted over all that a query may see of the history, and not the k best alone."""

from __future__ import annotations

from prlm_cli.core.history import History
from prlm_cli.core.prompts import Task
from prlm_cli.core.store import Store
from prlm_cli.metrics.habits import card, manner
from prlm_cli.retrievers.eligible import Eligible


def card_of(store: Store, history: History, seen: Eligible, task: Task) -> str:
    """The card of what the author answered, in the documents that a query may see; empty without any.

    A history is read once, and a query that sees the same documents as the one before gets the same card at once.

    Args:
        store: In the snapshot that the history is of.
        history: All of the user's documents.
        seen: Those that count.
        task: Says which part of a document is the answer.
    """
    known = history.derived
    if "manners" not in known:
        documents = store.documents_at(history.user_id, [entry.rid for entry in history.entries])
        known["manners"] = [manner(answer) if answer else None for answer in map(task.answer_of, documents)]
    if known.get("card", (None, ""))[0] != seen:
        known["card"] = seen, card([one for position in seen if (one := known["manners"][position])])
    found: str = known["card"][1]
    return found
