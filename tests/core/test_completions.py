from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.completions import MAX_ANSWER_WORDS, parse

_WORDS_64, _WORDS_65 = (" ".join(["word"] * count) for count in (MAX_ANSWER_WORDS, MAX_ANSWER_WORDS + 1))
_NEVER_CLOSED = "Title: Draft\nand so on"
_PLAIN = [  # completion, answer; with nothing opened by the prompt
    ("Deep Parsing", "Deep Parsing"),
    ("  Deep Parsing \n", "Deep Parsing"),
    ("\n\n Deep Parsing\nand more", "Deep Parsing"),
    ("Title: Deep Parsing", "Deep Parsing"),
    ("title :  Deep Parsing", "Deep Parsing"),
    ("TITLE: Deep Parsing\nTitle: Another", "Deep Parsing"),
    ("Titles: Deep Parsing", "Titles: Deep Parsing"),
    ("Parsing: Deep and Wide", "Parsing: Deep and Wide"),
    ("Title: Parsing: Deep and Wide", "Parsing: Deep and Wide"),
    ('"Deep Parsing"', "Deep Parsing"),
    ("'Deep Parsing'", "Deep Parsing"),
    ("“Deep Parsing”", "Deep Parsing"),
    ("`Deep Parsing`", "Deep Parsing"),
    ("\"'Deep Parsing'\"", "Deep Parsing"),
    ('Title: "Deep Parsing"', "Deep Parsing"),
    ('"Deep Parsing', '"Deep Parsing'),
    ('"Deep" Parsing', '"Deep" Parsing'),
    ('"Deep" or "Wide"', '"Deep" or "Wide"'),
    ("'Deep' or 'Wide'", "'Deep' or 'Wide'"),
    ("**Deep Parsing**", "Deep Parsing"),
    ("**Title:** Deep Parsing", "Deep Parsing"),
    ("**Title**: Deep Parsing", "Deep Parsing"),
    ("**Title: Deep Parsing**", "Deep Parsing"),
    ('**Title:** **"Deep Parsing"**', "Deep Parsing"),
    ("Title: Pass **options on", "Pass **options on"),
    ("**Deep** and **Wide**", "**Deep** and **Wide**"),
    ("****", None),
    ("The User's Parser", "The User's Parser"),
    ("Parsers' Trees", "Parsers' Trees"),
    ('{"title": "Deep Parsing"}', "Deep Parsing"),
    ('{"Title": "Deep Parsing", "year": 2024}', "Deep Parsing"),
    ('{"year": 2024, "title": "Deep \\"Parsing\\""}', 'Deep "Parsing"'),
    ('{"title": "The User\'s Parser"}', "The User's Parser"),
    ("{'title': 'Deep Parsing'}", "Deep Parsing"),
    ("{'title': \"The User's Parser\"}", "The User's Parser"),
    ("{'title': 'Deep Parsing', 'final': True}", "Deep Parsing"),
    ('{"title": "Deep Parsing", "why": {"title": "none"}}', "Deep Parsing"),
    ('Here it is: {"title": "Deep Parsing"}. Enjoy!', "Deep Parsing"),
    ('```json\n{"title": "Deep Parsing"}\n```', "Deep Parsing"),
    ('{"title": "Deep Parsing"', "Deep Parsing"),
    ('"title": "Deep Parsing"\n"year": 2024', "Deep Parsing"),
    ("{'title': 'The User's Parser'}", "The User's Parser"),
    ('{"title": ""}', None),
    ('{"title": null}', None),
    ('{"title": 2024}', None),
    ("<answer>Deep Parsing</answer>", "Deep Parsing"),
    ("<ANSWER>\nDeep Parsing\n</Answer> bye", "Deep Parsing"),
    ("<answer>Draft</answer> better: <answer>Deep Parsing</answer>", "Deep Parsing"),
    ("Sure!\n<answer>Deep Parsing", "Deep Parsing"),
    ('<answer>{"title": "Deep Parsing"}</answer>', "Deep Parsing"),
    ("<answer>Title: Deep Parsing</answer>", "Deep Parsing"),
    ("<answer></answer>", None),
    ("", None),
    (" \n\t ", None),
    ('""', None),
    ("Title:", None),
    ("generated title", None),
    ("Title: generated title", None),
    ('{"title": "Generated Title"}', None),
    ("(untitled)", None),
    ("Your title here", None),
    (_WORDS_64, _WORDS_64),
    (_WORDS_65, None),
    (f"{_WORDS_65}\nDeep Parsing", None),
    ("{{}}", "{{}}"),
    ("{[1]: 2}", "{[1]: 2}"),
    ("深い構文解析", "深い構文解析"),
    ("{" * 5000, "{" * 5000),
]
_THOUGHTS = [  # completion, whether the prompt opened the thought, reasoning, answer
    ("They use colons.\n</think>\nTitle: Deep Parsing", True, "They use colons.", "Deep Parsing"),
    ("<think>They use colons.</think>Deep Parsing", True, "They use colons.", "Deep Parsing"),
    ("<think>They use colons.</think>Deep Parsing", False, "They use colons.", "Deep Parsing"),
    ("<THINK>why</THINK> Deep Parsing", False, "why", "Deep Parsing"),
    ("Title: Draft\n<answer>Draft</answer>\n</think>\nDeep Parsing", True, "Title: Draft\nDraft", "Deep Parsing"),
    ('{"title": "Draft"}</think>{"title": "Deep Parsing"}', True, '{"title": "Draft"}', "Deep Parsing"),
    ("one</think>Draft</think>Deep Parsing", True, "oneDraft", "Deep Parsing"),
    ("one</think>Draft<think>two</think>Deep Parsing", True, "oneDrafttwo", "Deep Parsing"),
    ("one</think>Draft\n<think>two", True, None, None),
    ("one</think>\n<think>Title: Draft", True, None, None),
    ("why</think>", True, "why", None),
    ("why</think>\n\n", True, "why", None),
    ("why</think>generated title", True, "why", None),
    ("</think>Deep Parsing", True, "", "Deep Parsing"),
    (_NEVER_CLOSED, True, _NEVER_CLOSED, None),
    ("<answer>Draft</answer>", True, "Draft", None),
    ("<think>Title: Draft", False, "Title: Draft", None),
    ("Draft <think> more", False, "Draft  more", None),
    ("", True, "", None),
    ("why</ think>Draft", True, "why</ think>Draft", None),
    ("why&lt;/think&gt;Draft", True, "why&lt;/think&gt;Draft", None),
]


@pytest.mark.parametrize(("completion", "answer"), _PLAIN, ids=lambda text: repr(text)[:50])
def test_the_answer_of_a_completion_without_a_thought(completion, answer):
    assert parse(completion, cue="Title", reasoning_opened=False) == (None, answer)


@pytest.mark.parametrize(("completion", "answer"), _PLAIN, ids=lambda text: repr(text)[:50])
def test_a_closed_thought_before_it_leaves_the_answer_the_same(completion, answer):
    draft = 'Title: Draft\n<answer>Draft</answer>{"title": "Draft"}'

    assert parse(f"{draft}</think>{completion}", cue="Title", reasoning_opened=True).answer == answer


@pytest.mark.parametrize(("completion", "opened", "reasoning", "answer"), _THOUGHTS, ids=lambda value: repr(value)[:40])
def test_an_answer_is_never_read_out_of_the_thought(completion, opened, reasoning, answer):
    parsed = parse(completion, cue="Title", reasoning_opened=opened)

    assert parsed.answer == answer
    assert reasoning is None or parsed.reasoning == reasoning


_MARKS = ["<think>", "</think>", "<answer>", "</answer>", "</THINK>", "title", "Title:", "generated title", " a"]
_PIECES = st.sampled_from([*_MARKS, "\\d", "\\N{", "b'", "\ud800", *"{}[]()\"':,\\\n<>1#é\x00"])
_COMPLETIONS = st.text() | st.lists(_PIECES, max_size=12).map("".join)


@given(_COMPLETIONS, st.booleans(), st.sampled_from(["Title", "a.b(", "Überschrift"]))
def test_every_string_can_be_parsed(completion, opened, cue):
    reasoning, answer = parse(completion, cue=cue, reasoning_opened=opened)

    assert answer is None or (answer.strip() == answer and answer)
    assert not re.search("<think>|</think>", f"{reasoning}{answer}", re.IGNORECASE)
    assert (reasoning is None) == (not opened and not re.search("</?think>", completion, re.IGNORECASE))


@pytest.mark.parametrize("completion", ['{"title": "a \\d"}', "{'title': '\\d'}", "{1is 1}", '{"title": "$\\sigma$"}'])
def test_parsing_warns_of_nothing_since_a_warning_would_print_the_text(completion):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parse(completion, cue="Title", reasoning_opened=False)

    assert caught == []
