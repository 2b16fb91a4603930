"""Tasks: what is asked for, and how the parts of its prompt are called. One file and one line each."""

from prlm_cli.core.prompts import Task
from prlm_cli.core.registry import Registry

TASKS: Registry[Task] = Registry(
    "task",
    {
        "titles": "prlm_cli.tasks.titles:TITLES",
        "subjects": "prlm_cli.tasks.subjects:SUBJECTS",
        "citations": "prlm_cli.tasks.citations:CITATIONS",
        "tags": "prlm_cli.tasks.tags:TAGS",
        "ratings": "prlm_cli.tasks.ratings:RATINGS",
        "tweets": "prlm_cli.tasks.tweets:TWEETS",
        "abstracts": "prlm_cli.tasks.abstracts:ABSTRACTS",
        "reviews": "prlm_cli.tasks.reviews:REVIEWS",
        "posts": "prlm_cli.tasks.posts:POSTS",
        "emails": "prlm_cli.tasks.emails:EMAILS",
        "replies": "prlm_cli.tasks.replies:REPLIES",
    },
)
