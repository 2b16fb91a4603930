from __future__ import annotations

import re

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.eval_report import history_sizes, html_report, metric_table
from prlm_cli.pipeline.evaluate import evaluate
from prlm_cli.pipeline.second_pass import Generations
from tests.pipeline.generations import TARGET, document, generation
from tests.report.elements import Elements

SECRETS = ["a-secret-query", "a-secret-answer", "a-secret-record", "a-secret-thought", "a-secret-target", "secret-user"]


def _secret(number):
    query, answer, record, thought, target, user = SECRETS
    return generation(
        number, text=query, answer=f"{answer} fix", profile=[document(record)] * (number % 3), reasoning=thought,
        target=f"{target} fix a leak", user_id=f"{user}-{number % 4}",
    )  # fmt: skip


def _report(tmp_path, records, *assignments, histories=None):
    path = tmp_path / "generations.jsonl"
    jsonl.write(path, records, force=True)
    config = resolve(assignments=["eval.bootstrap=100", *assignments])
    source = Generations(path)
    found = evaluate(source, config.eval)
    return found, html_report(found, source, config, histories=histories)


def test_the_page_has_the_figures_of_the_table(tmp_path):
    found, html = _report(tmp_path, [generation(n, answer=TARGET if n % 2 else "fix") for n in range(20)])
    texts = Elements(html).texts

    for row in metric_table(found).rows:
        assert set(row) <= set(texts)
    assert "20 generations · 20 users · seed 0 · 100 resamples of users behind each interval" in " ".join(texts)


def test_the_page_shows_the_best_the_worst_and_random_examples(tmp_path):
    _, html = _report(tmp_path, [generation(n, answer=TARGET if n < 50 else f"fix {n}") for n in range(100)])
    examples = Elements(html).of("article")

    groups = [group for example in examples for group in example["data-groups"].split(",")]
    assert {group: groups.count(group) for group in ("best", "worst", "random")} == {
        "best": 10,
        "worst": 10,
        "random": 10,
    }
    assert {e["data-difference"] for e in examples if "best" in e["data-groups"]} == {"1.0"}


def test_scores_are_set_against_records_and_history(tmp_path):
    records = [_secret(n) for n in range(12)]

    _, plain = _report(tmp_path, records)
    _, known = _report(tmp_path, records, histories={"secret-user-0": 10, "secret-user-1": 20, "other": 5})

    titles = ["rougeL by records retrieved, with 95 % intervals", "rougeL by user's documents in the index, with"]
    texts = [" ".join(Elements(html).texts) for html in (plain, known)]
    assert [title in texts[0] for title in titles] == [True, False]
    assert [title in texts[1] for title in titles] == [True, True]


def test_users_are_numbered_unless_their_ids_are_asked_for(tmp_path):
    records = [_secret(n) for n in range(12)]

    _, numbered = _report(tmp_path, records)
    _, named = _report(tmp_path, records, 'eval.report_users="ids"')

    assert "secret-user" not in numbered
    assert "user 1" in numbered
    assert "secret-user-0" in named


def test_the_page_to_share_has_no_users_text(tmp_path):
    records = [_secret(n) for n in range(12)]

    _, whole = _report(tmp_path, records)
    _, shared = _report(tmp_path, records, "eval.report_text=false")

    assert all(secret in re.sub("</?mark>", "", whole) for secret in SECRETS[:5])
    assert not any(secret in shared for secret in SECRETS)
    assert "<script" not in shared


def test_the_page_stands_without_a_metric_that_applies(tmp_path):
    _, html = _report(tmp_path, [generation(0, target=None)], 'eval.metrics=["rougeL"]')

    assert "<article" not in html


def test_a_page_of_a_thousand_long_texts_stays_below_two_megabytes(tmp_path):
    long = "many words of one user " * 1000
    records = [
        generation(n, text=long, answer=long, reasoning=long, profile=[document(long)] * 20) for n in range(1000)
    ]

    _, html = _report(tmp_path, records, 'eval.metrics=["length"]')

    assert len(html.encode()) < 2e6


def test_history_sizes_are_those_of_the_index(workspace, tmp_path):
    assert set(history_sizes(workspace)) == {"ada", "ben", "cem"}
    assert set(history_sizes(workspace).values()) == {8}
    assert history_sizes(Workspace(tmp_path / "nowhere")) == {}
