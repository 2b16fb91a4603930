"""Reward functions as somebody else might write them, right and wrong."""

import math

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
