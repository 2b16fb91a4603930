"""Reports in a real browser: nothing runs or loads but our own script, which filters; themes; narrow screens."""

from __future__ import annotations

import os
import shutil

import pytest

from prlm_cli.core import jsonl
from tests.pipeline.generations import document, generation

_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_HOSTILE = (
    '<script>document.title = "ran"</script><img src="http://example.org/x.png" onerror="document.title = \'ran\'">'
    '<svg onload="document.title = \'ran\'"></svg></script><a href="javascript:document.title=1">x</a>'
)

pytestmark = pytest.mark.skipif(_BROWSER is None, reason="NOT RUN: no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="NOT RUN: needs playwright")
    with api.sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, as which containers run.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=_BROWSER, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def view(browser):
    """Opens a file; at the end, the page must have said nothing and asked for nothing but the file."""
    opened, noise = [], []

    def open_page(path, *, width=1280, scheme="light", scripts=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        page = context.new_page()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda request: noise.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        opened.append(context)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert noise == []


@pytest.fixture
def report(prlm, tmp_path):
    """The page that compares two files of 3 users with 8 queries each, whose texts are hostile."""
    for name in ("a", "b"):
        records = [
            generation(
                n,
                user_id=f"u{n % 3}",
                text=f"{_HOSTILE} number{n} {'unbroken' * 40}",
                target=f"fix a leak {_HOSTILE}",
                answer=f"fix a leak {_HOSTILE}" if (name == "a") == (n % 4 > 0) else f"nothing {n}",
                reasoning=f"{_HOSTILE} because",
                profile=[document(f"{_HOSTILE} record")] * (n % 3),
                policy=_HOSTILE,
            )
            for n in range(24)
        ]
        jsonl.write(tmp_path / f"{name}.jsonl", records)
    path = tmp_path / "report.html"
    result = prlm("compare", "a.jsonl", "b.jsonl", "--report", path)
    assert result.exit_code == 0, result.stderr
    return path


def _shown(page):
    return page.locator("article:visible")


def _field(page, label):
    return page.locator("form").get_by_label(label)


def _background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_users_text_is_shown_and_does_not_run(view, report):
    page = view(report)

    for details in page.locator("details").all()[:6]:
        details.locator("summary").click()

    assert page.title() == "Comparison"
    assert '<script>document.title = "ran"</script><img' in page.locator("article").first.inner_text()
    assert page.locator("article img, article svg, article a, article script").count() == 0


def test_filters_change_which_examples_are_shown(view, report):
    page = view(report)
    count = _shown(page).count()
    assert page.locator("output").inner_text() == f"{count} of {count} examples"

    _field(page, "Outcome").select_option("loss")
    losses = _shown(page).count()
    _field(page, "User").select_option("user 1")
    both = _shown(page).count()

    assert 0 < both < losses < count
    assert page.locator("output").inner_text() == f"{both} of {count} examples"
    assert {e.get_attribute("data-user") for e in _shown(page).all()} == {"user 1"}
    assert {e.get_attribute("data-outcome") for e in _shown(page).all()} == {"loss"}


def test_search_looks_into_what_is_folded_and_enter_sends_nothing(view, report):
    page = view(report)

    _field(page, "Text").fill("NUMBER3 ")
    page.keyboard.press("Enter")

    assert page.locator("output").inner_text().startswith(f"{_shown(page).count()} of")
    assert 0 < _shown(page).count() <= 1
    assert page.url == report.as_uri()


def test_groups_and_order(view, report):
    page = view(report)

    _field(page, "Chosen as").select_option("most changed")
    _field(page, "Order").select_option("low")

    differences = [float(e.get_attribute("data-difference")) for e in _shown(page).all()]
    assert len(differences) == 10
    assert differences == sorted(differences)
    assert all("most changed" in e.get_attribute("data-groups") for e in _shown(page).all())


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_the_theme_follows_the_system_until_one_is_chosen(view, report, scripts):
    light, dark = (view(report, scheme=scheme, scripts=scripts) for scheme in ("light", "dark"))
    colors = [_background(page) for page in (light, dark)]
    assert colors[0] != colors[1]

    light.get_by_label("dark", exact=True).check()
    dark.get_by_label("light", exact=True).check()

    assert [_background(page) for page in (light, dark)] == colors[::-1]


def test_without_scripts_all_examples_are_there_and_no_dead_fields(view, report):
    page = view(report, scripts=False)

    assert _shown(page).count() == page.locator("article").count() > 0
    assert not page.locator("form").is_visible()


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_screen(view, report, width):
    page = view(report, width=width)

    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_field_can_be_reached_by_keyboard_and_shows_it(view, report):
    page = view(report)
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "[document.activeElement.name || document.activeElement.tagName,"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert outline != "none", name
        seen.add(name)

    assert {"theme", "user", "outcome", "group", "order", "text", "SUMMARY"} <= seen


def test_the_page_of_an_evaluation_works_alike(view, prlm, tmp_path):
    records = [generation(n, answer=f"{_HOSTILE} {n}", policy=_HOSTILE) for n in range(30)]
    jsonl.write(tmp_path / "a.jsonl", records)
    prlm("eval", "a.jsonl", "--report", "page.html", "--set", 'eval.report_users="ids"')
    page = view(tmp_path / "page.html", width=400)

    _field(page, "User").select_option("u3")

    assert page.title() == "Evaluation"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert {e.get_attribute("data-user") for e in _shown(page).all()} == {"u3"}
