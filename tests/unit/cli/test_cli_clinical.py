"""What is known of the patient: from a file, from options, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from lungmesh.cli.clinical import priority_of, read_clinical
from lungmesh.cli.exits import CommandError, Exit
from lungmesh.v1 import study_pb2
from lungmesh.v1.study_pb2 import ClinicalContext


def test_what_is_not_said_stays_unknown() -> None:
    assert read_clinical(None, None, None, None) == ClinicalContext()


def test_options_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "clinical.json"
    path.write_text('{"age_years": 50, "emphysema": true, "fdg_uptake": "FDG_UPTAKE_FAINT"}')
    assert read_clinical(path, 61.0, "female", False) == ClinicalContext(
        age_years=61,
        sex=study_pb2.SEX_FEMALE,
        ever_smoker=False,
        emphysema=True,
        fdg_uptake=study_pb2.FDG_UPTAKE_FAINT,
    )


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "is no ClinicalContext in JSON"),
        ('{"height": 180}', "height"),
        ('{"age_years": 200}', "age_years"),
    ],
)
def test_a_wrong_file_names_what_is_wrong(tmp_path: Path, content: str, part: str) -> None:
    path = tmp_path / "clinical.json"
    path.write_text(content)
    with pytest.raises(CommandError, match=part) as caught:
        read_clinical(path, None, None, None)
    assert caught.value.exit_status == Exit.USAGE


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="nowhere"):
        read_clinical(tmp_path / "nowhere.json", None, None, None)


@pytest.mark.parametrize("word", ["Female", "f", ""])
def test_a_wrong_sex_names_the_choices(word: str) -> None:
    with pytest.raises(CommandError, match="--sex must be one of female, male, other"):
        read_clinical(None, None, word, None)


def test_a_wrong_priority_names_the_choices() -> None:
    assert priority_of("stat") == study_pb2.PRIORITY_STAT
    with pytest.raises(CommandError, match="--priority must be one of stat, routine, backfill"):
        priority_of("urgent")
