"""Coded concepts of the DICOM objects: PS3.16, SNOMED CT, and our own where no standard has one."""

from __future__ import annotations

import hashlib
import re

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from lungmesh.report.content import Category, Nodule
from lungmesh.report.terms import GROWTH, NODULE_TYPES

# Our own coding scheme (PS3.3 section 8.2: private designators begin with 99).
SCHEME = "99LUNGMESH"
_CODE_VALUE_LENGTH = 16

MORPHOLOGY = codes.SCT.MorphologicallyAbnormalStructure
NODULE = codes.SCT.Nodule
RIGHT, LEFT = Code("24028007", "SCT", "Right"), Code("7771000", "SCT", "Left")
# SNOMED CT names the upper and lower lobes without a side: the side is a modifier.
LOBES = {
    "right_upper": (codes.SCT.UpperLobeOfLung, RIGHT),
    "right_middle": (codes.SCT.MiddleLobeOfRightLung, RIGHT),
    "right_lower": (codes.SCT.LowerLobeOfLung, RIGHT),
    "left_upper": (codes.SCT.UpperLobeOfLung, LEFT),
    "left_lower": (codes.SCT.LowerLobeOfLung, LEFT),
}
IMAGING_REPORT = Code("18748-4", "LN", "Diagnostic imaging report")
# IHE's own code, as long as DICOM has none.
PROCESSING_ALGORITHM = Code("Newcode1", "99IHE", "Processing Algorithm")
_OWNERS = {SCHEME: "LungMesh", "99IHE": "Integrating the Healthcare Enterprise"}
SOLID_PART = Code("solid_part", SCHEME, "Solid part")
CT_CHEST = Code("169069000", "SCT", "CT of chest")
NODULE_TYPE = Code("nodule_type", SCHEME, "Nodule type")
GROWTH_CLASS = Code("growth_class", SCHEME, "Growth class")
DETECTION_SCORE = Code("detection_score", SCHEME, "Detection score")
SOLID_DIAMETER = Code("solid_diameter", SCHEME, "Mean diameter of solid part")
DOUBLING_TIME = Code("doubling_time", SCHEME, "Volume doubling time")
DOUBLING_TIME_LOW = Code("doubling_low", SCHEME, "Volume doubling time, 95 % from")
DOUBLING_TIME_HIGH = Code("doubling_high", SCHEME, "Volume doubling time, 95 % to")
VOLUME_CHANGE = Code("volume_change", SCHEME, "Change of volume since prior exam")
GROWTH_PROBABILITY = Code("growth_chance", SCHEME, "Probability of growth since prior exam")
DAYS_SINCE_PRIOR = Code("prior_days", SCHEME, "Days since prior exam")
MATCH_OUTCOME = Code("match_outcome", SCHEME, "Match with earlier exams")
REVIEW = Code("review", SCHEME, "Review by radiologist")
CONFIRMED = Code("confirmed", SCHEME, "Confirmed by radiologist")
CHANGED = Code("by_hand", SCHEME, "Changed by radiologist")
_OUTCOMES = {
    "first_exam": "First exam",
    "same": "Same nodule in an earlier exam",
    "new": "New nodule",
    "split": "Split off from a nodule of an earlier exam",
    "merged": "Merged from nodules of an earlier exam",
    "not_evaluable": "Not evaluable",
}
NO_NODULE = Code("no_nodule", SCHEME, "No pulmonary nodule found")
AUTOMATIC_FINDING = Code("reading_result", SCHEME, "Result of automatic reading")
ONE = codes.UCUM.NoUnits
DAYS = Code("d", "UCUM", "day")


def nodule_type(nodule: Nodule) -> Code:
    """Return the nodule's type as a code."""
    return Code(nodule.type, SCHEME, NODULE_TYPES[nodule.type].en.capitalize())


def growth(nodule: Nodule) -> Code:
    """Return the nodule's growth class as a code."""
    return Code(nodule.growth, SCHEME, GROWTH[nodule.growth].en.capitalize())


def outcome(nodule: Nodule) -> Code:
    """Return what a nodule is to the earlier exams' nodules as a code."""
    return Code(_value(f"match_{nodule.outcome}"), SCHEME, _OUTCOMES[nodule.outcome])


def guideline(judged: Category) -> Code:
    """Return a guideline's category as a concept name."""
    name, edition = judged.guideline.name, judged.guideline.version
    return Code(_value(f"{name}_{edition}"), SCHEME, f"{name} {edition} category"[:64])


def category(judged: Category) -> Code:
    """Return one of a guideline's categories."""
    name, edition = judged.guideline.name, judged.guideline.version
    value = judged.category
    return Code(_value(f"{name}_{edition}_{value}"), SCHEME, f"{name} {edition}: {value}"[:64])


def sizes(nodule: Nodule) -> tuple[tuple[str, Code, float, str], ...]:
    """Return a nodule's measures: name, concept, value, UCUM unit."""
    return (
        ("long_axis", codes.SCT.LongAxis, nodule.long_axis_mm, "mm"),
        ("short_axis", codes.SCT.ShortAxis, nodule.short_axis_mm, "mm"),
        ("mean_diameter", codes.SCT.Diameter, nodule.mean_diameter_mm, "mm"),
        ("volume", codes.SCT.Volume, nodule.volume_mm3, "mm3"),
        ("mean_hu", codes.DCM.MeanAttenuationCoefficient, nodule.mean_hu, "[hnsf'U]"),
    )


def sign(name: str, meaning: str) -> Code:
    """Return a radiological sign as a concept name."""
    return Code(_value(f"sign_{name}"), SCHEME, meaning.capitalize())


def yes_no(present: bool) -> Code:
    """Return SNOMED CT's present or absent."""
    if present:
        return Code("52101004", "SCT", "Present")
    return Code("2667000", "SCT", "Absent")


def concept(code: Code) -> CodedConcept:
    """Return a code as highdicom takes it."""
    return CodedConcept(code.value, code.scheme_designator, code.meaning)


def schemes(dataset: Dataset) -> list[Dataset]:
    """Return whose the private coding schemes in an object are (PS3.3 section C.12.1.1)."""
    used = {e.value for e in dataset.iterall() if e.keyword == "CodingSchemeDesignator"}
    out = []
    for designator, owner in sorted(_OWNERS.items()):
        if designator in used:
            item = Dataset()
            item.CodingSchemeDesignator = designator
            item.CodingSchemeName = item.CodingSchemeResponsibleOrganization = owner
            out.append(item)
    return out


def _value(text: str) -> str:
    """Return a Code Value: an SH, so at most 16 characters; a longer one ends in its hash."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if len(plain) <= _CODE_VALUE_LENGTH:
        return plain
    return f"{plain[:9]}_{hashlib.sha256(plain.encode()).hexdigest()[:6]}"
