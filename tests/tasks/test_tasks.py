"""Every task of the table makes prompts in every layout, and reads its own answers back."""

import pytest

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.settings import LAYOUTS
from prlm_cli.pipeline.suites.benchmarks import BENCHMARKS
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec, shown

_RECORD = ProfileDocument(doc_id="d", text="a text", title="a title")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*TASKS])
def test_a_task_shows_a_record_and_the_query_and_reads_its_answer(name, layout):
    task = TASKS[name]
    builder = PromptBuilder(task, layout, False, 10_000, ByteCodec())

    prompt = shown(builder.build("the query", [_RECORD]).ids)

    assert all(part in prompt for part in ("a text", "a title", "the query"))
    assert (prompt.index("a title") < prompt.index("a text")) == task.writes_texts
    assert builder.parse(builder.completion("an answer")).answer == "an answer"
    assert builder.parse(f"{task.cue}: an answer").answer == "an answer"


def test_no_two_tasks_ask_the_same():
    assert len({TASKS[name].instruction for name in TASKS}) == len({*TASKS})


@pytest.mark.parametrize("suite", [*BENCHMARKS])
def test_every_suite_has_a_task_of_the_table(suite):
    assert BENCHMARKS[suite].task in {*TASKS}
