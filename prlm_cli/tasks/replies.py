"""A reply to a request of a user whose earlier conversations are known."""

from prlm_cli.core.prompts import Task

REPLIES = Task(
    text_label="Request",
    cue="Reply",
    instruction="Reply to the last request as suits this person best. Earlier conversations show what they like.",
    is_long=True,
)
