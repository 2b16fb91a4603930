"""Which of two papers an author would cite."""

from prlm_cli.core.prompts import Task

CITATIONS = Task(
    text_label="Question",
    cue="Choice",
    instruction="Write [1] or [2]: which reference fits the last question. Earlier papers show the author's field.",
)
