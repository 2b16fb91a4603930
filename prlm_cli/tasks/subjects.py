"""The subject line of a message (a commit, a mail), as its author would write it."""

from prlm_cli.core.prompts import Task

SUBJECTS = Task(
    text_label="Message",
    cue="Subject",
    instruction="Write the subject line that this author would give to the last message. Earlier messages show how.",
)
