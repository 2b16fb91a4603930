import json

import pytest

from prlm_cli.core.errors import DataError
from prlm_cli.formats.personalllm import read

ROW = {
    "prompt": "p",
    **{f"response_{n}": f"r{n}" for n in (1, 2, 10)},
    **{f"response_{n}_{model}": n + bonus for n in (1, 2, 10) for model, bonus in (("gemma_2b", 0), ("x", 0.5))},
    "unrelated": 3,
}


def _read(tmp_path, *rows):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(rows))
    return list(read(path))


def test_responses_come_in_the_order_of_their_numbers_with_their_scores(tmp_path):
    (row,) = _read(tmp_path, ROW)

    assert (row.prompt, row.responses) == ("p", ["r1", "r2", "r10"])
    assert row.scores == [{"gemma_2b": n, "x": n + 0.5} for n in (1, 2, 10)]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompt": None}, "no prompt"),
        ({"response_2": 3}, "a response is no text"),
        ({"response_2_x": None}, "not every response has the same scores"),
    ],
)
def test_a_row_at_fault_is_named(tmp_path, fields, says):
    with pytest.raises(DataError, match=f"row 2: {says}"):
        _read(tmp_path, ROW, ROW | fields)
