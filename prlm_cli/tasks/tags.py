"""The tag that a user would give to a film, out of the fixed list of LaMP-2 (arXiv 2304.11406)."""

from prlm_cli.core.prompts import Task
from prlm_cli.metrics.lamp_tasks import LABELS

TAGS = Task(
    text_label="Film",
    cue="Tag",
    instruction=f"Write the one tag that this user would give to the last film, out of: {', '.join(LABELS[2])}.",
)
