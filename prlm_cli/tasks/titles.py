"""A title for a text, as its author would give it."""

from prlm_cli.core.prompts import Task

TITLES = Task(
    text_label="Text",
    cue="Title",
    instruction="Write the title that this author would give to the last text. Earlier texts show how they title.",
)
