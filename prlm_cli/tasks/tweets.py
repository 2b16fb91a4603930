"""A tweet as its author would put it."""

from prlm_cli.core.prompts import Task

TWEETS = Task(
    text_label="Message",
    cue="Tweet",
    instruction="Write the last message as this author would tweet it. Earlier tweets show their way.",
    writes_texts=True,
)
