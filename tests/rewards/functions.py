"""Reward functions as somebody else might write them, right and wrong."""

import math
import os
import signal

NOT_A_FUNCTION = 3


def brevity(*, completions, queries):
    return [None if query.target is None else 1 / (1 + len(c)) for c, query in zip(completions, queries, strict=True)]


def too_few(*, completions, queries):
    return [0.0]


def not_finite(completions, queries):
    return [math.nan] * len(completions)


def of_texts(completions, queries):
    return ["good"] * len(completions)


def nothing(completions, queries):
    return None


def failing(completions, queries):
    raise ZeroDivisionError("of its own")


def other_arguments(prompts, completions):
    return [0.0] * len(completions)


def constant(*, completions, queries):
    return [1.0] * len(completions)


def failing_in_the_second_process(completions, queries):
    if os.environ["RANK"] == "1":
        raise ZeroDivisionError("of its own")
    return [0.0] * len(completions)


def ending_the_second_process(completions, queries):
    """Asks one process to stop, unless the environment says `GOES_ON`; trains as `brevity`."""
    if os.environ.get("RANK") == "1" and "GOES_ON" not in os.environ:
        os.kill(os.getpid(), signal.SIGTERM)
    return brevity(completions=completions, queries=queries)


def flat_for_some(completions, queries):
    """Tells no two completions apart where the query's length is even; trains as `brevity` elsewhere."""
    values = brevity(completions=completions, queries=queries)
    return [0.0 if len(query.text) % 2 == 0 else value for query, value in zip(queries, values, strict=True)]
