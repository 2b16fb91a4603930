"""`prlm import lamp`, `prlm import csv` and `prlm import git`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prlm_cli import ui
from prlm_cli.commands import options

if TYPE_CHECKING:
    from prlm_cli.pipeline.import_ import Tally

app = options.new_app()
_SHOWN_REASONS = 5


@app.callback()
def import_() -> None:
    """Turn other people's files into records: LaMP, CSV, git.

    Records go to stdout, one JSON object a line; what becomes no record is counted on stderr, with the reason.

    Example: prlm import git ~/src/linux --max 5000 | prlm index -
    Example: prlm import csv mails.csv --map user_id=sender,text=body,title=subject -o mails.jsonl
    """


@app.command()
def lamp(
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS", help="Questions file, or a folder of splits.")],
    outputs: Annotated[
        Path | None, typer.Argument(metavar="OUTPUTS", help="Outputs file; default: the one beside the questions.")
    ] = None,
    output: options.OutFile = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Turn LaMP or LongLaMP questions into documents and queries.

    Each query names the documents that its question came with.

    Example: prlm import lamp LaMP_4/dev/dev_questions.json
    Example: prlm import lamp LaMP_5 -o lamp5.jsonl
    """
    from prlm_cli.pipeline.import_ import Tally, import_lamp, split_rule

    tally = Tally()
    records = import_lamp(questions, outputs, tally=tally)
    ui.note(f"split {split_rule(questions)}")
    _deliver(records, tally, output=output, force=force, as_json=json)


@app.command()
def csv(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or TSV file with a header; - is stdin.")],
    mapping: Annotated[
        str | None, typer.Option("--map", metavar="FIELD=COLUMN,…", help="Which column is which field.")
    ] = None,
    output: options.OutFile = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Turn the rows of a CSV or TSV file into documents and queries.

    A row with query_id is a query, any other a document. Columns that are no field are kept in meta.

    Example: prlm import csv notes.csv --map text=body,title=subject
    Example: prlm import csv notes.tsv.gz -o notes.jsonl
    """
    from prlm_cli.pipeline.import_ import Tally, import_csv

    tally = Tally()
    _deliver(import_csv(file, mapping, tally=tally), tally, output=output, force=force, as_json=json)


@app.command()
def git(
    repository: Annotated[Path, typer.Argument(metavar="REPO", help="Folder of a git repository.")],
    limit: Annotated[int | None, typer.Option("--max", min=1, help="At most so many commits, the newest.")] = None,
    min_words: Annotated[
        int, typer.Option("--min-body", min=0, metavar="WORDS", help="Pass over commits with a shorter body.")
    ] = 3,
    output: options.OutFile = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Turn the commits of a repository into documents, a user for each author.

    A commit's text is the body of its message, its title the subject. Users are hashes of the authors' addresses;
    lines that name people, and addresses, are taken out of the messages. Merges are left out.

    Example: prlm import git . -o commits.jsonl
    Example: prlm import git ~/src/linux --max 5000 --min-body 20
    """
    from prlm_cli.pipeline.import_ import Tally, import_git

    tally = Tally()
    records = import_git(repository, limit=limit, min_words=min_words, tally=tally)
    _deliver(records, tally, output=output, force=force, as_json=json)


def _deliver(records: Iterable[Any], tally: Tally, **where: Any) -> None:
    """Records where the user wants them, then what there was and what was dropped."""
    options.deliver(records, **where)
    ui.note(f"{tally.documents} documents, {tally.queries} queries")
    reasons = sorted(tally.dropped.items(), key=lambda item: -item[1][0])
    for reason, (count, first) in reasons[:_SHOWN_REASONS]:
        ui.note(f"dropped {count}: {ui.visible(reason)} (first: {ui.visible(first)})")
    if rest := reasons[_SHOWN_REASONS:]:
        ui.note(f"dropped {sum(count for _, (count, _) in rest)} more, for {len(rest)} other reasons")
