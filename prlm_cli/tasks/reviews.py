"""The review of a product, from what is known of it and of the verdict (LongLaMP)."""

from prlm_cli.core.prompts import Task

REVIEWS = Task(
    text_label="Product",
    cue="Review",
    instruction="Write the review that this customer would give the last product. Earlier reviews show their style.",
    writes_texts=True,
    is_long=True,
)
