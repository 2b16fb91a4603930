from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.prompts import Task, one_line
from prlm_cli.core.records import Document, ProfileDocument
from prlm_cli.core.settings import LAYOUTS
from tests.core.codecs import END, START, shown
from tests.core.prompt_forms import FORMS, HOSTILE, PROFILE, RECORDS, TASK, TURNS, builder_of, profiles, record, texts

_THINK_FIRST = (
    "Title it. First reason about the author's way between <think> and </think>,"
    " then write one line: Title: and the answer."
)


@pytest.mark.parametrize(
    ("layout", "reasoning", "with_profile", "without"),
    [
        ("completion", False, f"{RECORDS}Text: new text\nTitle:", "Title it.\n\nText: new text\nTitle:"),
        ("completion", True, f"{RECORDS}Text: new text\n<think>\n", f"{_THINK_FIRST}\n\nText: new text\n<think>\n"),
        ("turns", False, f"«system\nTitle it.»\n{TURNS}", "«system\nTitle it.»\n«user\nnew text»\n«assistant\n"),
        (
            "turns",
            True,
            f"«system\n{_THINK_FIRST}»\n{TURNS}<think>\n",
            f"«system\n{_THINK_FIRST}»\n«user\nnew text»\n«assistant\n<think>\n",
        ),
        (
            "document",
            False,
            f"«user\nTitle it.\n\n{RECORDS}Text: new text»\n«assistant\nTitle:",
            "«user\nTitle it.\n\nText: new text»\n«assistant\nTitle:",
        ),
        (
            "document",
            True,
            f"«user\n{_THINK_FIRST}\n\n{RECORDS}Text: new text»\n«assistant\n<think>\n",
            f"«user\n{_THINK_FIRST}\n\nText: new text»\n«assistant\n<think>\n",
        ),
    ],
)
def test_the_text_of_each_layout_with_and_without_records(layout, reasoning, with_profile, without):
    builder = builder_of(layout, reasoning)

    assert shown(builder.build("new \n text", PROFILE).ids) == with_profile
    assert shown(builder.build("new text", []).ids) == without


@pytest.mark.parametrize(
    ("layout", "reasoning", "end"),
    [
        ("turns", True, "«assistant\n<think>\n"),
        ("turns", False, "«assistant\n<think>\n\n</think>\n\n"),
        ("document", True, "«assistant\n<think>\n"),
        ("document", False, "«assistant\n<think>\n\n</think>\n\nTitle:"),
        ("completion", True, "new text\n<think>\n"),
        ("completion", False, "new text\nTitle:"),
    ],
)
def test_a_template_that_opens_the_thought_is_followed_or_closed(layout, reasoning, end):
    assert shown(builder_of(layout, reasoning, opens_reasoning=True).build("new text", PROFILE).ids).endswith(end)


@example(("completion", False), False, 64, "0<0", [])
@example(("completion", True), False, 64, "", [ProfileDocument(doc_id="", text="", title=None)])
@given(st.sampled_from(FORMS), st.booleans(), st.integers(64, 900), texts, profiles)
def test_no_prompt_is_longer_than_allowed_and_the_query_is_cut_last(form, opens, max_tokens, text, profile):
    builder = builder_of(*form, max_tokens=max_tokens, opens_reasoning=opens)
    roomy = builder_of(*form, opens_reasoning=opens, max_tokens=10**6)
    empty, alone = (len(roomy.build(query, []).ids) for query in ("", text))
    try:
        packed = builder.build(text, profile)
    except SettingsError as error:
        assert empty >= max_tokens and "prompt.max_tokens" in str(error)
        return

    assert len(packed.ids) <= max_tokens
    assert packed.records == tuple(profile[: len(packed.records)])
    # With a record, a prompt needs no instruction, and may be shorter than without.
    assert packed.query_cut == (alone > max_tokens and not packed.records)
    if len(roomy.build(text, profile).ids) <= max_tokens:
        assert packed == roomy.build(text, profile)
    if packed.query_cut:
        # As much of the query as fits; a character cut in half may leave up to three bytes.
        assert len(packed.ids) > max_tokens - 4
    else:
        assert one_line(text) in shown(packed.ids)


@given(st.sampled_from(FORMS), st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(500, 1500))
def test_records_left_out_or_cut_are_counted(form, lengths, max_tokens):
    profile = [record(n, "ab " * length) for n, length in enumerate(lengths)]
    packed = builder_of(*form, max_tokens=max_tokens).build("q", profile)
    text = shown(packed.ids)

    whole = sum(f"{record.text.strip()}{'»' if form[0] == 'turns' else chr(10)}" in text for record in packed.records)
    assert packed.records_cut >= len(profile) - len(packed.records)
    assert packed.records_cut <= len(profile)
    assert (packed.records_cut == 0) == (whole == len(profile))


_SHARED = [
    PROFILE[0],
    ProfileDocument(doc_id="kb", text="of everybody", title="Known", rank=2, corpus="shared"),
]


@pytest.mark.parametrize("reasoning", [False, True])
@pytest.mark.parametrize(
    ("layout", "own", "shared"),
    [
        ("completion", "Text: first text\nTitle: First", "Text (by somebody else): of everybody\nTitle: Known"),
        ("document", "Text: first text\nTitle: First", "Text (by somebody else): of everybody\nTitle: Known"),
        (
            "turns",
            "«user\nfirst text»\n«assistant\nFirst»",
            "«user\n(by somebody else) of everybody»\n«assistant\nKnown»",
        ),
    ],
)
def test_a_shared_record_is_marked_in_every_layout_and_an_own_one_is_not(layout, reasoning, own, shared):
    prompt = shown(builder_of(layout, reasoning).build("new text", _SHARED).ids)

    assert prompt.index(shared) < prompt.index(own)
    assert prompt.count("by somebody else") == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_mark_of_a_shared_record_stays_where_its_text_is_cut(layout):
    long = [ProfileDocument(doc_id="kb", text="word " * 200, title="Known", rank=1, corpus="shared")]
    packed = builder_of(layout, max_tokens=200).build("new text", long)

    assert len(packed.ids) <= 200 and packed.records_cut == 1
    assert "(by somebody else)" in shown(packed.ids)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_best_record_stands_last_next_to_the_query(layout):
    text = shown(builder_of(layout).build("QUERY", [record(n, f"body{n}") for n in range(5)]).ids)

    assert re.findall(r"body\d|QUERY", text) == ["body4", "body3", "body2", "body1", "body0", "QUERY"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_short_record_does_not_use_goes_to_the_next(layout):
    profile = [record(0, "short"), record(1, "x" * 1000)]
    room = len(builder_of(layout).build("q", []).ids) + 400
    text = shown(builder_of(layout, max_tokens=room).build("q", profile).ids)

    assert "short" in text
    assert text.count("x") > 250  # an equal share would be less than 200


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_worst_records_go_first_when_there_is_no_room_for_a_piece_of_each(layout):
    profile = [record(n, f"{n}" * 200) for n in range(10)]
    alone = len(builder_of(layout).build("q", []).ids)
    packed = builder_of(layout, max_tokens=alone + 150).build("q", profile)

    assert 0 < len(packed.records) < 10
    assert [record.doc_id for record in packed.records] == [str(n) for n in range(len(packed.records))]
    assert packed.records_cut == 10
    assert builder_of(layout, max_tokens=alone + 1).build("q", profile).records == ()


@pytest.mark.parametrize(("layout", "reasoning"), FORMS)
def test_only_a_limit_too_small_for_any_query_is_refused(layout, reasoning):
    empty = len(builder_of(layout, reasoning).build("", []).ids)

    with pytest.raises(SettingsError, match=f"prompt.max_tokens={empty} leaves no room for a query; raise it"):
        builder_of(layout, reasoning, max_tokens=empty).build("query", [])
    assert builder_of(layout, reasoning, max_tokens=empty + 1).build("query", []).query_cut


@given(st.sampled_from(FORMS), HOSTILE, HOSTILE, HOSTILE, st.integers(330, 700))
def test_no_text_of_a_user_can_close_the_reasoning_or_forge_a_block(form, query, text, title, max_tokens):
    profile = [ProfileDocument(doc_id="d", text=text, title=title)] * 2
    builder = builder_of(*form, max_tokens=max_tokens)
    hostile = builder.build(query, profile)
    harmless = builder.build("x", [ProfileDocument(doc_id="d", text="x", title="x")] * len(hostile.records))

    for control in (START, END):
        assert hostile.ids.count(control) == harmless.ids.count(control)
    block = r"(^|\v|[\x85\u2028\n])(Text|Title):"  # in turns, blocks are turns, which the control tokens make
    for pattern in ("</?think>", "</?answer>", r"\n", *([] if form[0] == "turns" else [block])):
        found, expected = (re.findall(pattern, shown(p.ids), re.IGNORECASE) for p in (hostile, harmless))
        assert len(found) == len(expected), pattern


_ANSWERS = st.lists(st.from_regex(r"[A-Za-z0-9é][\w'\u2019,.:-]{0,8}", fullmatch=True), min_size=1, max_size=12).map(
    " ".join
)


@given(st.sampled_from(FORMS), _ANSWERS, st.text(alphabet="ab.:\n{}\"'é", max_size=60).map(str.strip))
def test_what_a_perfect_policy_writes_is_read_back(form, answer, reasoning):
    assume(not answer.lower().startswith("title:") and answer.lower() not in ("title", "your title", "the title"))
    builder = builder_of(*form)
    completion = builder.completion(answer, reasoning)

    assert builder.parse(completion) == (reasoning if builder.reasoning else None, answer)
    assert builder.is_well_formed(completion) == (bool(reasoning) or not builder.reasoning)


def test_the_hash_tells_every_form_apart():
    tasks = [TASK, Task("Message", "Subject", "Name it.")]
    forms = product(LAYOUTS, [False, True], [64, 65], [False, True], tasks)
    builders = [builder_of(*form[:4], task=form[4]) for form in forms if form[0] != "completion" or not form[3]]

    assert len({builder.hash for builder in builders}) == len(builders)
    assert builder_of().hash == builder_of().hash


@pytest.mark.parametrize(("layout", "reasoning"), FORMS)
def test_the_hash_changes_with_the_instruction_since_prompts_without_records_hold_it(layout, reasoning):
    other = Task(TASK.text_label, TASK.cue, "Give it a title.")
    one, two = builder_of(layout, reasoning), builder_of(layout, reasoning, task=other)

    assert one.build("q", []).ids != two.build("q", []).ids
    assert one.hash != two.hash


@pytest.mark.parametrize(
    ("completion", "with_reasoning", "without"),
    [
        ("why\n</think>\nTitle: Deep Parsing", True, False),
        ("<think>why</think>Deep Parsing", True, False),
        (" <think>why</think>Deep Parsing", True, False),
        ("Deep Parsing", False, True),
        ("Title: Deep Parsing\nmore", False, True),
        ("</think>Deep Parsing", False, False),
        (" \n</think>Deep Parsing", False, False),
        ("why", False, True),
        ("why</think>", False, False),
        ("why</think>\nTitle:", False, False),
        ("why</think>a</think>Deep Parsing", False, False),
        ("why<think>a</think>Deep Parsing", False, False),
        ("<think><think>why</think>Deep Parsing", False, False),
        ("why</think>Deep <think> Parsing", False, False),
        ("why</THINK>Deep Parsing", True, False),
        ("<answer>Deep Parsing</answer>", False, False),
        ("generated title", False, False),
        ("why</think>generated title", False, False),
        ("", False, False),
        ("<think>", False, False),
        ("<think></think>Deep Parsing", False, False),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_well_formed_completion_has_one_thought_that_is_not_empty_and_an_answer(
    layout, completion, with_reasoning, without
):
    assert builder_of(layout, True).is_well_formed(completion) == with_reasoning
    assert builder_of(layout, False).is_well_formed(completion) == without


_TWEETS = Task(text_label="Message", cue="Tweet", instruction="Tweet it.", writes_texts=True)


_POSTS = Task(text_label="Summary", cue="Post", instruction="Post it.", writes_texts=True, is_long=True)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("completion", "Post: second text\n\nSummary: First\nPost: first text\n\nSummary: new text\nPost:"),
        (
            "turns",
            "«system\nPost it.»\n«user\n(an earlier one, of the author's own accord)»\n«assistant\nsecond text»\n"
            "«user\nFirst»\n«assistant\nfirst text»\n«user\nnew text»\n«assistant\n",
        ),
        (
            "document",
            "«user\nPost it.\n\nPost: second text\n\nSummary: First\nPost: first text\n\nSummary: new text»\n"
            "«assistant\nPost:",
        ),
    ],
)
def test_a_task_that_writes_texts_shows_a_record_the_other_way_round(layout, expected):
    assert shown(builder_of(layout, task=_POSTS).build("new text", PROFILE).ids) == expected


def test_a_record_that_is_an_answer_is_cut_to_fit_and_leaves_the_query_whole():
    records = [ProfileDocument(doc_id="d", text="word " * 500, title=None)]

    packed = builder_of(max_tokens=200, task=_TWEETS).build("new text", records)

    assert len(packed.ids) <= 200 and packed.records_cut == 1 and len(packed.records) == 1
    assert shown(packed.ids).startswith("Tweet: word word") and shown(packed.ids).endswith("Message: new text\nTweet:")


@pytest.mark.parametrize(
    ("layout", "task", "ends"),
    [
        ("completion", TASK, True),
        ("document", TASK, True),
        ("turns", TASK, False),
        ("completion", _POSTS, True),
        ("document", _POSTS, False),
    ],
)
def test_a_long_answer_ends_at_a_line_break_only_where_records_are_lines(layout, task, ends):
    assert builder_of(layout, task=task).ends_at_line_break is ends


def test_a_long_answer_keeps_its_paragraphs_and_may_be_long():
    builder = builder_of("document", task=_POSTS)
    text = "First paragraph.\n\n" + "word " * 200 + "end"

    assert builder.parse(f" {text}\n").answer == text
    assert builder.parse(f"Post: {text}").answer == text
    assert builder.is_well_formed(text) and not builder_of("document").is_well_formed("word " * 200)
    assert builder_of("document", True, task=_POSTS).parse(f"why</think>\nPost: {text}").answer == text


def test_what_a_record_answers_is_its_title_or_where_the_task_writes_texts_its_text():
    document = Document(user_id="u", text=" a text ", title="a title")

    assert (TASK.answer_of(document), _POSTS.answer_of(document)) == ("a title", "a text")
    assert TASK.answer_of(Document(user_id="u", text="a text")) == ""
