"""Small files in the layouts of the suites, written for these tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_INPUTS: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "lamp-1": (
        'For an author who wrote the paper titled "Trees", which reference is related? [1]: "Parsing" [2]: "Waves"',
        [{"id": "p1", "title": "Grammars", "abstract": "We parse with grammars."}],
        "[1]",
    ),
    "lamp-2": (
        "Which tag fits this movie? tags: [comedy, classic] description: Two clowns open a bank.",
        [{"id": "p1", "description": "Three clowns rob a bank.", "tag": "comedy"}],
        "comedy",
    ),
    "lamp-3": (
        "What is the score of the following review on a scale of 1 to 5? review: It broke at once.",
        [{"id": "p1", "text": "It works every day.", "score": "5"}],
        "1",
    ),
    "lamp-4": (
        "Generate a headline for the following article: The bridge over the river opened today.",
        [{"id": "p1", "title": "A river runs dry", "text": "No water in the river."}],
        "Bridge opens over river",
    ),
    "lamp-5": (
        "Generate a title for the following abstract of a paper: We parse trees with attention.",
        [{"id": "p1", "title": "Grammars for trees", "abstract": "We parse trees with grammars."}],
        "Attention for trees",
    ),
    "lamp-6": (
        "Generate a subject for the following email: Please find the invoice of May attached.",
        [{"id": "p1", "title": "Invoice April", "text": "Please find the invoice of April attached."}],
        "Invoice May",
    ),
    "lamp-7": (
        "Paraphrase the following tweet without any explanation before or after it: the train is late again today",
        [{"id": "p1", "text": "late train is late, hello monday"}],
        "train late AGAIN, hello tuesday",
    ),
}
_LONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "longlamp-abstract": (
        'Write an abstract for the title "Trees" with the items: attention, parsing.',
        {"title": "Grammars", "abstract": "We parse with grammars. It works."},
        "We parse trees.\n\nAttention works.",
    ),
    "longlamp-review": (
        'Write a review with the rating "1.0" for the product "Kettle" with the summary "Broke".',
        {"overall": "5.0", "summary": "Fine pot", "description": "A pot", "reviewText": "This pot boils. I am glad."},
        "This kettle broke.\n\nI am not glad.",
    ),
    "longlamp-topic": (
        "Write a post on: a hike in the hills.",
        {"summary": "A swim in the lake", "content": "We swam at dawn. It was cold."},
        "We hiked at dawn.\n\nIt was steep.",
    ),
    "longlamp-email": (
        "Complete the email: Dear all, the meeting",
        {"title": "Lunch", "text": "Dear all, lunch is at noon. Best, Kim"},
        "is at ten.\n\nBest, Kim",
    ),
}
SCORED = [*_INPUTS, *_LONG]


def write_suite(name: str, folder: Path) -> tuple[Path, str, str]:
    """The file of a suite with two users, who are asked the same; what is asked, and the target."""
    if name in _INPUTS:
        asked, profile, target = _INPUTS[name]
        place = folder / name.replace("lamp-", "LaMP_")
        place.mkdir()
        questions = [{"id": f"{n}", "input": asked, "profile": profile, "user_id": f"u{n}"} for n in (1, 2)]
        golds = [{"id": f"{n}", "output": target} for n in (1, 2)]
        path = place / "dev_questions.json"
        path.write_text(json.dumps(questions))
        outputs = {"task": name.replace("lamp-", "LaMP_"), "golds": golds}
        (place / "dev_outputs.json").write_text(json.dumps(outputs))
        return path, asked, target
    asked, item, target = _LONG[name]
    path = folder / "test.json"
    path.write_text(
        json.dumps([{"name": f"u{n}", "input": asked, "output": target, "profile": [item]} for n in (1, 2)])
    )
    return path, asked, target


def realpref_rows() -> list[dict[str, Any]]:
    """Two users with a choice, a statement and an open question each; one pair of given answers with a label."""
    rows: list[dict[str, Any]] = []
    for user, hates, likes in (("ann", "cilantro", "parsley"), ("bob", "coriander", "chives")):
        common = {
            "user": user,
            "turns": [
                {"role": "user", "content": f"Whatever you suggest, {hates} is not for me."},
                {"role": "assistant", "content": "I will keep that in mind."},
            ],
            "preference": f"Dislikes {hates}",
            "expression": "explicit" if user == "ann" else "implicit",
        }
        options = [f"A salsa with {hates}", f"A salsa with {likes}", "Nothing"]
        rows.append(common | {"question": "A dip?", "kind": "choice", "options": options, "gold": 1})
        rows.append(common | {"question": f"Would {hates} please me?", "kind": "true_false", "gold": False})
        rows.append(common | {"question": "Plan a dinner.", "kind": "open"})
    rows[-1] |= {"answers": ["Fish with chives", "Fish with coriander"], "label": "a"}
    return rows


def personalllm_rows(count: int = 12) -> list[dict[str, Any]]:
    """Prompts with three responses, scored by two reward models that want the opposite."""
    return [
        {
            "prompt": f"Tell me about topic {n}.",
            **{f"response_{i}": f"{'word ' * i}{n}" for i in (1, 2, 3)},
            **{f"response_{i}_brief": -10.0 * i for i in (1, 2, 3)},
            **{f"response_{i}_wordy": 1.0 * i for i in (1, 2, 3)},
        }
        for n in range(count)
    ]
