"""The elements and texts of a page of HTML, for tests."""

from __future__ import annotations

from html.parser import HTMLParser


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self.declarations = [], [], []
        self.feed(text)

    @property
    def tags(self):
        return [tag for tag, _ in self.found]

    def of(self, tag):
        """The attributes of each element of a tag."""
        return [attributes for name, attributes in self.found if name == tag]

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)
