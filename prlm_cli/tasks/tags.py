"""The tag that a user would give to a film, out of the fixed list of LaMP-2 (arXiv 2304.11406)."""

from prlm_cli.core.prompts import Task

_LABELS = (
    "sci-fi",
    "based on a book",
    "comedy",
    "action",
    "twist ending",
    "dystopia",
    "dark comedy",
    "classic",
    "psychology",
    "fantasy",
    "romance",
    "thought-provoking",
    "social commentary",
    "violence",
    "true story",
)

TAGS = Task(
    text_label="Film",
    cue="Tag",
    instruction=f"Write the one tag that this user would give to the last film, out of: {', '.join(_LABELS)}.",
)
