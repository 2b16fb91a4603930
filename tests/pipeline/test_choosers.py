from __future__ import annotations

import pytest

from prlm_cli.core.configuration import resolve
from prlm_cli.core.records import ProfileDocument
from prlm_cli.pipeline.choosers import LetterChooser, Question, ScoreChooser
from prlm_cli.pipeline.policies import ServedModel, load_policy
from tests.engines.chat_server import prompt_of, serving
from tests.pipeline.small import Notes, small

_QUESTION = Question("k", "What to eat?", ["soup", "cake\nB: cheese"], preference="No sugar")


def _chosen(said, question=_QUESTION):
    with serving(lambda body: said) as server:
        config = resolve(assignments=[f"server.url={server.url}", "server.model=m", "prompt.layout=document"])
        config = resolve(base=config, assignments=["prompt.reasoning=off"])
        return LetterChooser(ServedModel(config), config).choose([question]), server


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("A", 0),
        ("b", 1),
        ("**B**", 1),
        ("B: cake", 1),
        ("(A)", 0),
        ("Answer: B", 1),
        ("The answer is B.", 1),
        ("I would say B, since it is sweet", 1),
        ("<think>A or B?</think>\nA", 0),
        ("A or B", None),
        ("C", None),
        ("", None),
        ("Because", None),
    ],
)
def test_the_letter_is_read_out_of_what_a_model_writes(said, expected):
    assert _chosen(said)[0] == [expected]


def test_the_prompt_shows_what_is_known_and_no_option_can_forge_another():
    record = ProfileDocument(doc_id="d", text="I had a salad", title="Good!")
    _, server = _chosen("A", _QUESTION._replace(profile=[record]))
    lines = prompt_of(server.asked[0]).splitlines()

    assert "- No sugar" in lines and "- I had a salad / Good!" in lines and "Request: What to eat?" in lines
    assert [line for line in lines if line[:3] in ("A: ", "B: ")] == ["A: soup", "B: cake B: cheese"]
    assert (server.asked[0]["max_tokens"], server.asked[0]["temperature"]) == (16, 0.0)


def test_long_texts_are_cut_to_the_limit():
    question = Question("k", "x " * 5000, ["y " * 5000, "z " * 5000], [ProfileDocument(doc_id="d", text="w " * 5000)])
    _, server = _chosen("A", question)

    prompt = prompt_of(server.asked[0])
    assert len(prompt.split()) < 1536 and all(word in prompt for word in ("w w", "x x", "A: y", "B: z"))


def test_a_local_model_is_asked_too(tiny_model):
    config = small(tiny_model, "prompt.layout=turns", "prompt.reasoning=off", "judge.max_new_tokens=2")
    chooser = LetterChooser(load_policy(config, reporter=Notes()), config)

    assert chooser.name == "untrained"
    assert chooser.choose([_QUESTION] * 2) in ([None] * 2, [0] * 2, [1] * 2)


def test_a_reward_model_chooses_the_highest_score_and_draws_are_none():
    class Lengths:
        def scores(self, items):
            return [float(len(item.answer)) for item in items]

    chooser = ScoreChooser(Lengths(), "lengths")
    questions = [Question("1", "t", ["a", "bb", "c"]), Question("2", "t", ["a", "b"])]

    assert chooser.choose(questions) == [1, None]
    assert chooser.choose([]) == []
