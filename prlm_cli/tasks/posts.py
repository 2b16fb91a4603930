"""A post on a topic, from its summary (LongLaMP)."""

from prlm_cli.core.prompts import Task

POSTS = Task(
    text_label="Summary",
    cue="Post",
    instruction="Write the post that this author would make of the last summary. Earlier posts show their style.",
    writes_texts=True,
    is_long=True,
)
