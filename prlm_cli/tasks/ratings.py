"""The stars that a user would give with a review, 1 to 5."""

from prlm_cli.core.prompts import Task

RATINGS = Task(
    text_label="Review",
    cue="Stars",
    instruction="Write how many stars, 1 to 5, this reviewer gave with the last review. Earlier ones show their scale.",
)
