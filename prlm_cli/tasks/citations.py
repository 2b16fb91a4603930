"""Which of two papers an author would cite."""

from prlm_cli.core.prompts import Task

CITATIONS = Task(
    text_label="Question",
    cue="Choice",
    instruction="Say which of the two references fits the last question: write [1] or [2]. Earlier papers show the author's field.",
)
