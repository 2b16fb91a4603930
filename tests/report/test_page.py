from __future__ import annotations

from html.parser import HTMLParser

import pytest

from prlm_cli.report.page import heading, page, paragraph, table


class _Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def test_a_page_holds_its_parts_and_fetches_nothing():
    text = page("A report", [heading("Users"), paragraph("57 of them."), table(["kind", "share"], [["own", 0.9]])])
    elements = _Elements(text)
    tags = [tag for tag, _ in elements.found]

    assert {"A report", "Users", "57 of them.", "kind", "own", "0.9"} <= set(elements.texts)
    assert not {"script", "img", "link", "iframe"} & set(tags)
    assert "http" not in text.replace("http-equiv", "")
    policy = next(attributes["content"] for tag, attributes in elements.found if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'")
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("payload", ["<script>alert(1)</script>", "<img src=x onerror=y>", "</style><b>", "a & <i>"])
def test_what_is_given_is_text(payload):
    plain = _Elements(page("x", [heading("x"), paragraph("x"), table(["x"], [["x"]])]))

    given = _Elements(page(payload, [heading(payload), paragraph(payload), table([payload], [[payload]])]))

    assert given.found == plain.found
