"""The abstract of a paper, from its title and its main points (LongLaMP)."""

from prlm_cli.core.prompts import Task

ABSTRACTS = Task(
    text_label="Paper",
    cue="Abstract",
    instruction="Write the abstract that this author would give to the last paper. Earlier abstracts show their style.",
    writes_texts=True,
    is_long=True,
)
