"""The rest of an e-mail, from its beginning (LongLaMP)."""

from prlm_cli.core.prompts import Task

EMAILS = Task(
    text_label="Beginning",
    cue="E-mail",
    instruction="Write the rest of the last e-mail as its author would. Earlier e-mails show their style.",
    writes_texts=True,
    is_long=True,
)
