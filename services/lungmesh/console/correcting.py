"""A radiologist's word as the page sends it, made into the mesh's correction."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lungmesh.console.access import Refusal
from lungmesh.console.results import Held
from lungmesh.console.views import number_of
from lungmesh.mesh.contract import validate
from lungmesh.v1.followup_pb2 import (
    Correction,
    CorrectionKind,
    FollowupUpdated,
    HandMeasurement,
    NoduleRef,
)
from lungmesh.v1.nodule_pb2 import NoduleType

_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MeasurementBody(_Strict):
    """What a person measured, mm and mm³."""

    long_axis_mm: float | None = Field(None, gt=0, le=300)
    short_axis_mm: float | None = Field(None, gt=0, le=300)
    volume_mm3: float | None = Field(None, gt=0, le=2_000_000)
    solid_mean_diameter_mm: float | None = Field(None, ge=0, le=300)


class OtherBody(_Strict):
    """A nodule of another exam of the patient."""

    study_id: str = Field(pattern=f"^{_UUID}$")
    nodule_id: str = Field(pattern=f"^{_UUID}$")


class CorrectionBody(_Strict):
    """What the page sends; author, time and place are the server's."""

    correction_id: str = Field(pattern=f"^{_UUID}$")
    kind: Literal["confirm", "reject", "remeasure", "retype", "link", "unlink", "withdraw"]
    nodule_id: str = Field(pattern=f"^{_UUID}$")
    measurement: MeasurementBody | None = None
    type: str = Field("", max_length=32)
    other: OtherBody | None = None
    withdraws: str = Field("", pattern=f"^({_UUID})?$")


# What each kind must say beside the nodule, and nothing else.
_NEEDED = {
    "confirm": "",
    "reject": "",
    "remeasure": "measurement",
    "retype": "type",
    "link": "other",
    "unlink": "other",
    "withdraw": "withdraws",
}


def correction_of(
    body: CorrectionBody, held: Held, other: Held | None, author: str, at: float
) -> Correction:
    """Return the correction, its nodules found in what the console holds.

    Parameters
    ----------
    other
        The exam of `body.other`; None when it names none.
    at
        Seconds since 1970.

    Raises Refusal: bad_request, not_found.
    """
    needed = _NEEDED[body.kind]
    for name in ("measurement", "type", "other", "withdraws"):
        if bool(getattr(body, name)) != (name == needed):
            raise Refusal("bad_request", f"A correction of this kind says: {needed or 'no more'}.")
    correction = Correction(
        correction_id=body.correction_id,
        author=author,
        kind=number_of(CorrectionKind.DESCRIPTOR, body.kind),  # type: ignore[arg-type]
        nodule=_reference(held, body.nodule_id),
        withdraws=body.withdraws,
    )
    correction.at.FromMicroseconds(round(at * 1e6))
    if body.measurement is not None:
        said = body.measurement.model_dump(exclude_none=True)
        if not said:
            raise Refusal("bad_request", "A re-measurement gives at least one size.")
        correction.measurement.CopyFrom(HandMeasurement(**said))
    if body.type:
        number = number_of(NoduleType.DESCRIPTOR, body.type)
        if number is None:
            raise Refusal("bad_request", "There is no such type of nodule.")
        correction.type = number  # type: ignore[assignment]
    if body.other is not None and other is not None:
        correction.other.CopyFrom(_reference(other, body.other.nodule_id))
    validate(correction)
    return correction


def said_before(held: Held, correction: Correction) -> bool:
    """Return whether the same correction is in the record already.

    Raises Refusal (already_said) when its id is there with other words.
    """
    event = held.followup or FollowupUpdated()
    for known in event.corrections:
        if known.correction_id == correction.correction_id:
            if _words(known) != _words(correction):
                raise Refusal("already_said")
            return True
    return False


def _words(correction: Correction) -> bytes:
    words = Correction()
    words.CopyFrom(correction)
    words.ClearField("at")
    words.nodule.ClearField("center_lps_mm")
    if words.HasField("other"):
        words.other.ClearField("center_lps_mm")
    return words.SerializeToString(deterministic=True)


def _reference(held: Held, nodule_id: str) -> NoduleRef:
    event = held.followup or FollowupUpdated()
    for nodule in (*event.nodules, *event.rejected):
        if nodule.nodule_id == nodule_id:
            return NoduleRef(
                study_id=held.row.study_id,
                nodule_id=nodule_id,
                center_lps_mm=nodule.center_lps_mm,
            )
    raise Refusal("not_found")
