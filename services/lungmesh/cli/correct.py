"""`lungmesh correct …`: a radiologist's word on a nodule, and what it changes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from lungmesh.cli.client import MeshClient
from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.show import Show
from lungmesh.cli.timeline import dated, study_date, the_timeline
from lungmesh.cli.up import the_running_mesh
from lungmesh.mesh.contract import name_of
from lungmesh.v1 import followup_pb2, nodule_pb2
from lungmesh.v1.followup_pb2 import Correction, FollowupUpdated, HandMeasurement, NoduleRef


@dataclass(frozen=True)
class Said:
    """Who speaks of whom."""

    tenant: str
    patient: str
    author: str


# What a person may measure: long axis, short axis, volume, mean diameter of the solid part.
Sizes = tuple[float | None, float | None, float | None, float | None]


def plain(data: Path, said: Said, kind: str, nodule: str, other: str, show: Show) -> None:
    """Confirm, reject, link or unlink.

    Parameters
    ----------
    nodule, other
        As `find_nodule` takes them; `other` is empty for confirm and reject.
    """
    value = followup_pb2.CorrectionKind.Value(f"CORRECTION_KIND_{kind.upper()}")
    _say(data, said, Correction(kind=value), nodule, other, show)


def measured(data: Path, said: Said, nodule: str, sizes: Sizes, show: Show) -> None:
    """Give sizes; None stays as the mesh measured it.

    Raises CommandError (USAGE) when no size is given.
    """
    if all(size is None for size in sizes):
        raise CommandError("give at least one size", Exit.USAGE)
    long_axis, short_axis, volume, solid = sizes
    correction = Correction(
        kind=followup_pb2.CORRECTION_KIND_REMEASURE,
        measurement=HandMeasurement(
            long_axis_mm=long_axis,
            short_axis_mm=short_axis,
            volume_mm3=volume,
            solid_mean_diameter_mm=solid,
        ),
    )
    _say(data, said, correction, nodule, "", show)


def typed(data: Path, said: Said, nodule: str, kind: str, show: Show) -> None:
    """Give a type by a name such as part-solid."""
    correction = Correction(kind=followup_pb2.CORRECTION_KIND_RETYPE, type=type_of(kind))
    _say(data, said, correction, nodule, "", show)


def withdraw(data: Path, said: Said, correction_id: str, show: Show) -> None:
    """Take an earlier correction back and print the exams whose result that changed.

    Raises CommandError (USAGE) when the patient has no such correction.
    """
    client = MeshClient(the_running_mesh(data))
    exams = the_timeline(client, said.tenant, said.patient)
    known = {c.correction_id: c for exam in exams for c in exam.corrections}
    if correction_id not in known:
        raise CommandError(f"no correction {correction_id} of this patient", Exit.USAGE)
    correction = Correction(
        kind=followup_pb2.CORRECTION_KIND_WITHDRAW,
        nodule=known[correction_id].nodule,
        withdraws=correction_id,
    )
    _send(client, said, correction, show)


def find_nodule(exams: Sequence[FollowupUpdated], name: str) -> NoduleRef:
    """Return the nodule that EXAM/NUMBER names: an exam's date or study id, and its number there.

    Raises CommandError (USAGE) naming what there is.
    """
    day, _, number = name.rpartition("/")
    day = day.replace("-", "") if len(day.replace("-", "")) == 8 else day
    found = [exam for exam in exams if day and day in (study_date(exam), exam.study.study_id)]
    if len(found) != 1:
        known = ", ".join(f"{study_date(e) or '?'} ({e.study.study_id})" for e in exams)
        many = "names several exams: give its study id" if found else "names no exam"
        raise CommandError(f"{name} {many}; there are {known}", Exit.USAGE)
    (exam,) = found
    for nodule in (*exam.nodules, *exam.rejected):
        if number in (str(nodule.number), nodule.nodule_id):
            return NoduleRef(
                study_id=exam.study.study_id,
                nodule_id=nodule.nodule_id,
                center_lps_mm=nodule.center_lps_mm,
            )
    numbers = ", ".join(str(nodule.number) for nodule in (*exam.nodules, *exam.rejected))
    raise CommandError(f"{name} names no nodule; the exam has {numbers or 'none'}", Exit.USAGE)


def type_of(name: str) -> nodule_pb2.NoduleType.ValueType:
    """Return the nodule type of a name such as part-solid.

    Raises CommandError (USAGE).
    """
    kind = nodule_pb2.NoduleType
    types = {name_of(kind.DESCRIPTOR, value): value for value in kind.values() if value}
    known = types.get(name.replace("-", "_").lower())
    if known is None:
        names = ", ".join(types).replace("_", "-")
        raise CommandError(f"the type must be one of {names}", Exit.USAGE)
    return known


def _say(
    data: Path, said: Said, correction: Correction, nodule: str, other: str, show: Show
) -> None:
    client = MeshClient(the_running_mesh(data))
    exams = the_timeline(client, said.tenant, said.patient)
    correction.nodule.CopyFrom(find_nodule(exams, nodule))
    if other:
        correction.other.CopyFrom(find_nodule(exams, other))
    _send(client, said, correction, show)


def _send(client: MeshClient, said: Said, correction: Correction, show: Show) -> None:
    now = Timestamp()
    now.GetCurrentTime()
    correction.correction_id = str(uuid.uuid4())
    correction.author = said.author
    correction.at.CopyFrom(now)
    changed = client.correct(said.tenant, said.patient, correction)
    show.note(
        f"kept as correction {correction.correction_id}; it changed {len(changed)} exam"
        + ("" if len(changed) == 1 else "s"),
        correction_id=correction.correction_id,
        changed=len(changed),
    )
    for exam in changed:
        words = ", ".join(f"{c.guideline.name} {c.category or '?'}" for c in exam.exam_categories)
        show.note(
            f"{dated(study_date(exam))}: edition {exam.edition}, {words}",
            study_id=exam.study.study_id,
            edition=exam.edition,
            categories={c.guideline.name: c.category for c in exam.exam_categories},
        )
