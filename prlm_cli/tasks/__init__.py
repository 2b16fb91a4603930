"""Tasks: what is asked for, and how the parts of its prompt are called. One file and one line each."""

from prlm_cli.core.prompts import Task
from prlm_cli.core.registry import Registry

TASKS: Registry[Task] = Registry(
    "task",
    {
        "titles": "prlm_cli.tasks.titles:TITLES",
        "subjects": "prlm_cli.tasks.subjects:SUBJECTS",
    },
)
