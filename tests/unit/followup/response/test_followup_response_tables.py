"""Every row of the response tables of RECIST 1.1 (`recist_tables.yaml`)."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lungmesh.followup.response.recist import NONE, TABLE_1, TABLE_2, best_overall, overall

TABLES = yaml.safe_load(Path(__file__).with_name("recist_tables.yaml").read_text(encoding="utf-8"))
FIRST = {"long": 60.0, "short": 30.0}


def listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def states(table: str) -> list[tuple[str, str, bool, str]]:
    return [
        (str(targets), str(others), bool(new), row["response"])
        for row in TABLES[table]
        for targets, others, new in product(
            listed(row["targets"]), listed(row["non_targets"]), listed(row["new"])
        )
    ]


@pytest.mark.parametrize(
    ("targets", "non_targets", "new", "response"), states("table_1") + states("table_2")
)
def test_every_row_of_tables_1_and_2_holds(
    targets: str, non_targets: str, new: bool, response: str
) -> None:
    row = overall(targets, non_targets, new)
    assert row.response == response
    assert row.name.startswith("Table 2" if targets == NONE else "Table 1")


def test_every_row_of_the_tables_speaks_for_some_state() -> None:
    names = {overall(*state[:3]).name for state in states("table_1") + states("table_2")}
    names.add(overall(NONE, NONE, new=False).name)
    assert names == {row.name for row in (*TABLE_1, *TABLE_2)}


@pytest.mark.parametrize("length", ["long", "short"])
@pytest.mark.parametrize(
    "row", TABLES["table_3"], ids=lambda row: f"{row['first']}-{row['second']}"
)
def test_every_row_of_table_3_holds(row: dict[str, str], length: str) -> None:
    first = FIRST[length]
    assert best_overall([(first, row["first"]), (first + 30, row["second"])]) == row[length]


def test_a_response_between_two_exams_that_could_not_be_evaluated_is_confirmed() -> None:
    assert best_overall([(60, "PR"), (90, "NE"), (120, "PR")]) == "PR"
    assert best_overall([(60, "PR"), (90, "SD"), (110, "PR")]) == "SD"


@given(
    st.lists(
        st.tuples(st.integers(7, 60), st.sampled_from(["CR", "PR", "SD", "PD", "NE"])), max_size=6
    )
)
def test_an_exam_after_progression_changes_no_best_response(steps: list[tuple[int, str]]) -> None:
    days, timepoints = 0.0, []
    for wait, response in steps:
        days += wait
        timepoints.append((days, response))
    ended = [*timepoints, (days + 30, "PD")]
    assert best_overall([*ended, (days + 60, "CR"), (days + 120, "CR")]) == best_overall(ended)
