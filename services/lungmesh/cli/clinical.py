"""What is known of the patient, from a JSON file and options; what is not said stays unknown."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.json_format import Parse, ParseError

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.mesh.contract import validate
from lungmesh.mesh.errors import BadInput
from lungmesh.v1 import study_pb2
from lungmesh.v1.study_pb2 import ClinicalContext, Priority, Sex

_SEXES: dict[str, Sex.ValueType] = {
    "female": study_pb2.SEX_FEMALE,
    "male": study_pb2.SEX_MALE,
    "other": study_pb2.SEX_OTHER,
}
_PRIORITIES: dict[str, Priority.ValueType] = {
    "stat": study_pb2.PRIORITY_STAT,
    "routine": study_pb2.PRIORITY_ROUTINE,
    "backfill": study_pb2.PRIORITY_BACKFILL,
}


def read_clinical(
    path: Path | None, age_years: float | None, sex: str | None, ever_smoker: bool | None
) -> ClinicalContext:
    """Return the context; an option overrides the file.

    Raises CommandError (USAGE) naming the file or the option that is wrong.
    """
    clinical = ClinicalContext()
    if path is not None:
        try:
            Parse(path.read_text(encoding="utf-8"), clinical)
        except (OSError, ParseError) as error:
            raise CommandError(
                f"--clinical {path} is no ClinicalContext in JSON: {error}", Exit.USAGE
            ) from error
    if age_years is not None:
        clinical.age_years = age_years
    if sex is not None:
        if sex not in _SEXES:
            raise CommandError(f"--sex must be one of {', '.join(_SEXES)}", Exit.USAGE)
        clinical.sex = _SEXES[sex]
    if ever_smoker is not None:
        clinical.ever_smoker = ever_smoker
    try:
        validate(clinical)
    except BadInput as error:
        raise CommandError(str(error), Exit.USAGE) from error
    return clinical


def priority_of(name: str) -> Priority.ValueType:
    """Return the priority of that name.

    Raises CommandError (USAGE).
    """
    if name not in _PRIORITIES:
        raise CommandError(f"--priority must be one of {', '.join(_PRIORITIES)}", Exit.USAGE)
    return _PRIORITIES[name]
