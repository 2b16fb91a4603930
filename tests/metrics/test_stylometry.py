import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.records import Generation, ProfileDocument, Usage
from prlm_cli.metrics.stylometry import FEATURES, TRAITS, delta, style, style_match

TAGGED = ["net/mlx5: fix leak on close", "net/mlx5: fix crash at start", "app/test: add a case"]
TITLED = ["Deep Parsing of Trees", "Robust Speech Recognition", "Neural Alignment at Scale"]
ASKING = ["What is a grant?", "How do we test forms?", "Who owns the data?"]
WORDS = st.text("ab Z,.:-?é9\n", min_size=1, max_size=20).filter(str.strip)


def generation(answer, *titles, **fields):
    profile = [ProfileDocument(doc_id=str(n), text="text", title=title) for n, title in enumerate(titles)]
    return Generation(
        query_id="q1", user_id="u1", text="t", profile=profile, retriever="bm25",
        completion="c", reasoning=None, answer=answer, policy="p", seed=0, **fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    "titles, fits, does_not",
    [
        (TAGGED, "bus/pci: fix probe of device", "Fixing the Probe of a Device"),
        (TAGGED, "net/ice: fix a leak", "I have fixed a leak, and the crash. Please review it!"),
        (TITLED, "Lexical Transfer for Speech", "lexical transfer for speech"),
        (TITLED, "Lexical Transfer for Speech", "Lexical Transfer for Speech?!"),
        (ASKING, "Why do forms fail?", "Forms fail."),
        (ASKING, "How can we help?", "HELP: 10 WAYS, 20 TOOLS (2019)"),
    ],
    ids=["case", "length", "capitals", "marks", "question", "digits"],
)
def test_what_is_written_like_the_titles_scores_more(titles, fits, does_not):
    assert style_match(fits, titles) > style_match(does_not, titles)


def test_a_title_repeated_has_no_distance_and_another_opening_has_one():
    assert delta(TAGGED[0], [TAGGED[0]] * 3) == pytest.approx(0)
    assert style_match(TAGGED[0], [TAGGED[0]]) == 1.0
    # The same number of characters, words, capitals and marks: nothing but the opening is another.
    assert delta("Parsing of trees", ["Passing of trees"] * 2) == pytest.approx(1 / (len(FEATURES) + 1))


def test_each_feature_adds_its_difference_in_its_own_scale():
    one, two = "fix it", "fix it again"

    by_hand = sum(abs(f.of(one) - f.of(two)) / f.scale for f in FEATURES.values()) / (len(FEATURES) + 1)

    assert delta(one, [two]) == pytest.approx(by_hand)
    assert style_match(one, [two]) == pytest.approx(math.exp(-by_hand))


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("log of words", "a b c", math.log(4)),
        ("characters a word", "ab abcd", 3.0),
        ("capital letters", "Ab 12 cD", 0.5),
        ("capitalised words", "The tree Of life", 0.5),
        ("digits", "a1b2", 0.5),
        ("marks", "a, b.", 0.4),
        ("function words", "The tree of life", 0.5),
        ("comma", "a, b", 1.0),
        ("question", "a, b", 0.0),
    ],
)
def test_features_are_counted_as_their_names_say(name, text, expected):
    assert FEATURES[name].of(text) == pytest.approx(expected)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_the_titles_does_not_count_and_the_match_is_in_its_range(text, titles, random):
    shuffled = random.sample(titles, len(titles))

    assert 0 < style_match(text, titles) <= 1
    assert style_match(text, shuffled) == style_match(text, titles)


@pytest.mark.parametrize("answer, expected", [(None, 0.0), ("", 0.0), (" \n", 0.0)], ids=["none", "empty", "blank"])
def test_without_an_answer_there_is_no_style(answer, expected):
    assert style(generation(answer, "A title")) == expected


def test_only_titles_of_the_user_that_the_policy_was_shown_count():
    shared = ProfileDocument(doc_id="s", text="x", title="WHAT A SHOUT!!!", corpus="shared")
    given_ = generation("fix a leak", "fix a leak", "WHAT A SHOUT!!!")
    usage = Usage(prompt_tokens=9, completion_tokens=9, records=1)

    assert style(generation("fix a leak", None, " ")) is None
    assert style(generation("fix a leak")) is None
    assert style(msgspec.structs.replace(given_, usage=usage)) == 1.0
    assert style(msgspec.structs.replace(given_, profile=[given_.profile[0], shared])) == 1.0
    assert style(given_) < 1.0


def test_the_traits_have_each_a_text_that_has_them():
    having = {
        "tag and colon first": "net: fix it", "number first": "3 ways", "verb in -ing first": "Parsing trees",
        "question": "why?", "exclamation": "so!", "full stop at the end": "so.", "comma": "a, b", "hashtags": "#a",
        "brackets": "a (b)", "dash": "a - b", "quoted": '"a" b',
    }  # fmt: skip

    assert having.keys() == TRAITS.keys()
    for name, text in having.items():
        assert TRAITS[name](text) and not TRAITS[name]("plain words")


def test_real_answers_fit_their_own_user_better_than_another_one(shared_data):
    """Titles of one set follow one convention, so the margin is small; a coin would give a half."""
    import json
    import random
    from collections import defaultdict

    profiles, wins = defaultdict(list), []
    for line in (shared_data / "govblog" / "profiles.jsonl").read_text().splitlines():
        document = json.loads(line)
        profiles[document["user_id"]].append(document["title"])
    lines = (shared_data / "govblog" / "queries.test.jsonl").read_text().splitlines()
    queries = [json.loads(line) for line in lines]
    for query in queries:
        others = [other for other in queries if other["user_id"] != query["user_id"]]
        other = random.Random(query["query_id"]).choice(others)
        titles = profiles[query["user_id"]]
        own, its = style_match(query["target"], titles), style_match(other["target"], titles)
        wins.append((own > its) + (own == its) / 2)

    assert sum(wins) / len(wins) > 0.58
