from __future__ import annotations

import base64
import hashlib
import itertools
import re

import pytest

from prlm_cli.report.estimates import Estimate, estimates
from prlm_cli.report.examples import Example, Side, example_list
from prlm_cli.report.page import Card, cards, heading, page, paragraph, table
from prlm_cli.report.table import Table
from tests.report.elements import Elements


def _full(text="x"):
    """A page with every part, all of whose words are `text`."""
    side = Side(text, text, text, text)
    example = Example(text, text, text, [text], [side, side], 0.5, [text], text)
    return page(
        text,
        [
            cards([Card(text, text, text)]),
            heading(text),
            paragraph(text),
            table(Table([text], [[text]])),
            estimates([text, text], [Estimate(text, 0.1, 0.0, 0.2, [text])]),
            example_list([example]),
        ],
        facts=[text],
    )


def test_a_page_holds_its_parts_and_fetches_nothing():
    found = Table(["kind", "share"], [["own", "0.9"]])
    text = page("A report", [heading("Users"), paragraph("57 of them."), table(found)], facts=["seed 3"])
    elements = Elements(text)

    assert {"A report", "Users", "57 of them.", "kind", "own", "0.9"} <= set(elements.texts)
    assert any("seed 3 · prlm " in words for words in elements.texts)
    assert not {"script", "img", "iframe"} & set(elements.tags)
    assert [link["href"] for link in elements.of("link")] == ["data:,"]
    assert "http" not in text.replace("http-equiv", "")


def test_the_policy_of_a_page_names_its_style_and_script_and_nothing_else():
    text = _full()
    (policy,) = (attributes["content"] for attributes in Elements(text).of("meta") if "http-equiv" in attributes)

    inside = {tag: re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL).group(1) for tag in ("style", "script")}
    hashes = {tag: base64.b64encode(hashlib.sha256(words.encode()).digest()).decode() for tag, words in inside.items()}
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_a_page_without_filters_has_no_script_and_lets_none_run():
    text = page("x", [paragraph("x")])

    assert "<script" not in text
    assert "script-src 'none'" in text


@pytest.mark.parametrize(
    "payload",
    ["<script>alert(1)</script>", "<img src=x onerror=y>", "</style><b>", '"><b a="', "a & <i>", "{{ 7 * 7 }}"],
)
def test_what_is_given_is_text(payload):
    plain, given = Elements(_full()), Elements(_full(payload))

    assert given.tags == plain.tags
    assert payload in given.texts
    assert [set(attributes) for _, attributes in given.found] == [set(attributes) for _, attributes in plain.found]


def test_a_page_has_landmarks_and_headings_in_order():
    tags = Elements(_full()).tags

    assert [tags.count(tag) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_cells_name_their_row_or_column_and_fields_are_within_labels():
    text = _full()

    assert all(attributes.get("scope") in ("row", "col") for attributes in Elements(text).of("th"))
    labelled = "".join(re.findall(r"<label>.*?</label>", text, re.DOTALL))
    for tag in ("select", "input"):
        assert len(Elements(labelled).of(tag)) == len(Elements(text).of(tag)) > 0


def _luminance(color):
    parts = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_as_much_as_wcag_aa_asks(theme):
    pairs = re.findall(r"--([\w]+): light-dark\((#\w{6}), (#\w{6})\)", page("x", []))
    color = {name: values[theme] for name, *values in pairs}

    def contrast(a, b):
        low, high = sorted([_luminance(color[a]), _luminance(color[b])])
        return (high + 0.05) / (low + 0.05)

    texts = [("ink", back) for back in ("paper", "panel", "added", "removed", "marked")]
    texts += [(name, back) for name in ("muted", "link") for back in ("paper", "panel")]
    assert {pair: contrast(*pair) for pair in texts if contrast(*pair) < 4.5} == {}
    assert {name: contrast(name, "paper") for name in "012345" if contrast(name, "paper") < 3} == {}
