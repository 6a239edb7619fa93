"""HL7 v2.5.1 ORU^R01: the report as a message to a RIS or EHR, under the pseudonym.

One order (OBR) of one study; its observations are study, impression in each language, the exam's
categories, then the nodules, whose number is the OBX-4. Concepts are those of SR and FHIR. Results
are preliminary (OBR-25 and OBX-11 `P`). Who sends the message knows a signature, the patient, the
receiver and the time of sending, and puts them in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Group, Message
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from lungmesh.report import coding
from lungmesh.report.content import Category, Content, Nodule
from lungmesh.report.objects import DEVICE, UNKNOWN_DATE, VERSION
from lungmesh.report.templating import Templates
from lungmesh.report.wording import conclusion

_HL7_VERSION = "2.5.1"
# Table 0211's name for UTF-8.
_CHARACTER_SET = "UNICODE UTF-8"
_APPLICATION = "LUNGMESH"
_CT_CHEST = Code("24627-2", "LN", "CT Chest")
_STUDY_UID = Code("110180", "DCM", "Study Instance UID")
_IMPRESSION = Code("19005-8", "LN", "Radiology Imaging study [Impression] (narrative)")
_PRELIMINARY = "P"
# MSH-10 and OBR-3 take at most so many characters.
_CONTROL_LENGTH, _FILLER_LENGTH = 20, 199
# HL7 v2.5.1 section 2.7.
_ESCAPES = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": " ", "\n": " "}
)


def oru(content: Content, words: Templates | None = None) -> bytes:
    """Return the message as UTF-8, segments ended by carriage returns, without MLLP's frame.

    Parameters
    ----------
    words
        The templates of its sentences.

    Raises hl7apy's ValidationError when the result is not a valid ORU^R01.
    """
    ids = content.ids
    day = content.exam.study_date
    message = Message("ORU_R01", version=_HL7_VERSION, validation_level=VALIDATION_LEVEL.STRICT)
    head = message.msh
    head.msh_3, head.msh_4 = _APPLICATION, escaped(str(ids["tenant"]))
    # Required.
    head.msh_7 = day or UNKNOWN_DATE
    head.msh_9 = "ORU^R01^ORU_R01"
    head.msh_10, head.msh_11 = _control_id(content), "P"
    head.msh_18 = _CHARACTER_SET
    result = message.add_group("ORU_R01_PATIENT_RESULT")
    patient = result.add_group("ORU_R01_PATIENT").add_segment("PID")
    patient.pid_1 = "1"
    patient.pid_3 = f"{ids['patient']}^^^{_APPLICATION}^PI"
    # PID-5 is required; the name comes back with the identity.
    patient.pid_5 = "^^^^^^S"
    order = result.add_group("ORU_R01_ORDER_OBSERVATION")
    request = order.add_segment("OBR")
    request.obr_1 = "1"
    request.obr_3 = f"{ids['study_id']}-r{ids['revision']}^{_APPLICATION}"[:_FILLER_LENGTH]
    request.obr_4 = _coded(_CT_CHEST)
    request.obr_7 = day
    request.obr_25 = _PRELIMINARY
    for number, observed in enumerate(_observed(content, words), 1):
        _observation(order, number, observed, day)
    message.validate()
    return f"{message.to_er7().rstrip(chr(13))}\r".encode()


def escaped(text: str) -> str:
    """Return a text as a value of HL7 v2; a line break is a space."""
    return text.translate(_ESCAPES)


# Type (table 0125), concept, OBX-4, encoded values, UCUM unit.
Observed = tuple[str, Code, str, Sequence[str], str]


def _observed(content: Content, words: Templates | None) -> Iterator[Observed]:
    study = escaped(content.ids["study_instance_uid"])
    yield "ST", _STUDY_UID, "", [study], ""
    told = conclusion(content, words)
    # The lines are repetitions of one OBX-5.
    yield "TX", _IMPRESSION, "en", [escaped(line.en) for line in told if line.en], ""
    yield "TX", _IMPRESSION, "zh", [escaped(line.zh) for line in told if line.zh], ""
    for category in content.categories:
        yield from _category("", category)
    if not content.nodules:
        yield "CWE", coding.AUTOMATIC_FINDING, "", [_coded(coding.NO_NODULE)], ""
    for nodule in content.nodules:
        yield from _nodule(nodule)


def _nodule(nodule: Nodule) -> Iterator[Observed]:
    part = str(nodule.number)
    lobe, side = coding.LOBES[nodule.lobe]
    yield "ST", codes.DCM.TrackingUniqueIdentifier, part, [escaped(nodule.ids["tracking_uid"])], ""
    yield "CWE", coding.NODULE_TYPE, part, [_coded(coding.nodule_type(nodule))], ""
    yield "CWE", codes.SCT.FindingSite, part, [f"{_coded(lobe)}^{_coded(side)}"], ""
    for _, concept, value, unit in coding.sizes(nodule):
        yield "NM", concept, part, [f"{value}"], unit
    yield "CWE", coding.GROWTH_CLASS, part, [_coded(coding.growth(nodule))], ""
    for prior in nodule.priors[:1]:
        if prior.volume_doubling_time_days is not None:
            days = f"{prior.volume_doubling_time_days}"
            yield "NM", coding.DOUBLING_TIME, part, [days], "d"
    for category in nodule.categories:
        yield from _category(part, category)


def _category(part: str, category: Category) -> Iterator[Observed]:
    if category.category:
        value = _coded(coding.category(category))
        yield "CWE", coding.guideline(category), part, [value], ""


def _observation(order: Group, number: int, observed: Observed, day: str) -> None:
    kind, concept, part, values, unit = observed
    segment = order.add_group("ORU_R01_OBSERVATION").add_segment("OBX")
    segment.obx_1, segment.obx_2 = str(number), kind
    segment.obx_3, segment.obx_4 = _coded(concept), part
    for value in values:
        segment.add_field("obx_5").value = value
    if unit:
        segment.obx_6 = f"{escaped(unit)}^{escaped(unit)}^UCUM"
    segment.obx_11 = _PRELIMINARY
    segment.obx_14 = day
    segment.obx_18 = f"{DEVICE}^{VERSION}"


def _coded(code: Code) -> str:
    parts = (code.value, code.meaning, code.scheme_designator)
    return "^".join(escaped(part) for part in parts)


def _control_id(content: Content) -> str:
    """Return MSH-10: the same edition gives the same."""
    ids = content.ids
    said = "\x1f".join(str(ids[name]) for name in ("tenant", "study_id", "revision", "edition"))
    return hashlib.sha256(said.encode()).hexdigest()[:_CONTROL_LENGTH]
