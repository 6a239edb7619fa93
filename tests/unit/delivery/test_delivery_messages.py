"""The report as HL7 v2 and FHIR for a hospital, read back by other libraries than made it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import hl7
import pytest
from fhir.resources.R4B.bundle import Bundle

from lungmesh.delivery.fhir import patient, transaction
from lungmesh.delivery.identity import PatientIdentity
from lungmesh.delivery.mllp import acknowledged, addressed
from lungmesh.delivery.parcel import Parcel, Standing, objects_of
from lungmesh.v1.report_pb2 import Artefact, ReportReady
from tests.support.delivery import IDENTITY, MADE_AT, parcel, written
from tests.support.report import made_up_case

SYSTEM = "urn:oid:2.16.840.1.1"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Parcel:
    case = made_up_case(tmp_path_factory.mktemp("report"))
    return parcel(asyncio.run(written(case)), case.blobs)


def message(
    report: Parcel,
    standing: Standing = Standing.UNSIGNED,
    identity: PatientIdentity = IDENTITY,
    pdf: bytes | None = None,
) -> tuple[hl7.Message, str]:
    """Return the message as an independent parser reads it, and its text."""
    original = report.file("oru.hl7")
    assert original is not None
    data, control_id = addressed(original, identity, ("RIS", "CITY"), standing, MADE_AT, pdf)
    parsed = hl7.parse(data.decode())
    assert str(parsed.segment("MSH")[10]) == control_id
    return parsed, data.decode()


def test_the_message_names_receiver_patient_and_nodules(report: Parcel) -> None:
    parsed, text = message(report)
    head, patient_, order = (parsed.segment(name) for name in ("MSH", "PID", "OBR"))
    assert str(head[9]) == "ORU^R01^ORU_R01"
    assert (str(head[5]), str(head[6]), str(head[12])) == ("RIS", "CITY", "2.5.1")
    assert str(head[7]) == "20231114221320+0000"
    assert str(patient_[3]) == "MRN-7^^^CITY^MR"
    assert str(patient_[5]) == "Wang^Xiaoming~王^小明"
    assert (str(patient_[7]), str(patient_[8])) == ("19500203", "M")
    assert str(order[4]).startswith("24627-2^")
    assert report.report.study.patient not in text
    observations = parsed.segments("OBX")
    assert [str(one[1]) for one in observations] == [
        str(n) for n in range(1, len(observations) + 1)
    ]
    by_nodule = {str(one[4]) for one in observations}
    assert {"1", "2", "en", "zh"} <= by_nodule
    diameters = [one for one in observations if str(one[3]).startswith("81827009^")]
    assert [str(one[2]) for one in diameters] == ["NM", "NM"]
    assert str(diameters[0][6]) == "mm^mm^UCUM"
    summary = json.loads(report.file("summary.json") or b"")
    assert [float(str(one[5])) for one in diameters] == [
        nodule["mean_diameter_mm"] for nodule in summary["nodules"]
    ]


def test_the_impression_is_there_in_both_languages(report: Parcel) -> None:
    parsed, _ = message(report)
    said = {
        str(one[4]): [parsed.unescape(str(line)) for line in one[5]]
        for one in parsed.segments("OBX")
        if str(one[3]).startswith("19005-8^")
    }
    for language, lines in said.items():
        text = (report.file(f"report.{language}.txt") or b"").decode()
        assert lines
        for line in lines:
            assert line in text
    assert set(said) == {"en", "zh"}


@pytest.mark.parametrize(
    ("standing", "status"),
    [(Standing.UNSIGNED, "P"), (Standing.SIGNED, "F"), (Standing.CORRECTED, "C")],
)
def test_the_status_says_what_is_signed(report: Parcel, standing: Standing, status: str) -> None:
    parsed, _ = message(report, standing)
    assert str(parsed.segment("OBR")[25]) == status
    assert {str(one[11]) for one in parsed.segments("OBX")} == {status}


def test_a_repeat_is_the_same_message_and_another_status_another(report: Parcel) -> None:
    assert message(report)[1] == message(report)[1]
    ids = {str(message(report, one)[0].segment("MSH")[10]) for one in Standing}
    assert len(ids) == 3
    assert max(map(len, ids)) <= 20


def test_signs_of_the_encoding_in_a_name_break_nothing(report: Parcel) -> None:
    odd = PatientIdentity("A|B^C", "O&Neil^~x\\y^^Dr^Jr", "", "", "A^B")
    parsed, _ = message(report, identity=odd)
    patient_ = parsed.segment("PID")
    assert parsed.unescape(str(patient_[3][0][0])) == "A|B^C"
    name = [parsed.unescape(str(part)) for part in patient_[5][0]]
    # Suffix before prefix, as XPN has them.
    assert name == ["O&Neil", "~x\\y", "", "Jr", "Dr"]
    assert len(parsed.segments("OBX")) == len(message(report)[0].segments("OBX"))


def test_the_pdf_goes_along_where_it_is_asked_for(report: Parcel) -> None:
    pdf = report.file("report.pdf")
    parsed, _ = message(report, pdf=pdf)
    last = parsed.segments("OBX")[-1]
    assert str(last[2]) == "ED"
    assert base64.b64decode(str(last[5][0][4])) == pdf


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x0bMSH|^~\\&|\rMSA|AA|77\r\x1c\r", ("AA", "77")),
        (b"\x0bMSH|^~\\&|\r\nMSA|AE|77|name of the patient\r\n\x1c\r", ("AE", "77")),
        (b"\x0bMSH|^~\\&|\r\x1c\r", ("", "")),
        (b"HTTP/1.1 400", ("", "")),
        (b"\x0bMSA\r\x1c\r", ("", "")),
        (b"\x0bMSA|AA\r\x1c\r", ("AA", "")),
    ],
)
def test_an_acknowledgement_is_read_as_far_as_it_is_one(
    answer: bytes, said: tuple[str, str]
) -> None:
    assert acknowledged(answer) == said


def bundle(report: Parcel, standing: Standing = Standing.UNSIGNED) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(report.file("fhir.json") or b"")
    transaction(made, IDENTITY, SYSTEM, standing, report.file)
    Bundle.model_validate(made)
    return made


def of(made: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in made["entry"] if e["resource"]["resourceType"] == kind]


def test_the_transaction_finds_the_patient_and_puts_the_rest(report: Parcel) -> None:
    made = bundle(report)
    asked = {entry["request"]["url"]: entry["request"] for entry in made["entry"]}
    assert len(asked) == len(made["entry"])
    assert asked["Patient"]["method"] == "POST"
    assert asked["Patient"]["ifNoneExist"] == f"identifier={SYSTEM}|MRN-7"
    assert {a["method"] for url, a in asked.items() if url != "Patient"} == {"PUT"}
    (person,) = of(made, "Patient")
    assert [name["text"] for name in person["name"]] == ["Xiaoming Wang", "小明 王"]
    assert (person["gender"], person["birthDate"]) == ("male", "1950-02-03")
    assert "urn:lungmesh:pseudonym" not in json.dumps(made)
    assert bundle(report) == made


def test_every_reference_leads_to_a_resource_of_the_transaction(report: Parcel) -> None:
    made = bundle(report)
    places = {entry["fullUrl"] for entry in made["entry"]}

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["reference"]} if "reference" in node else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert references(made["entry"]) <= places


def test_the_reports_files_are_inside(report: Parcel) -> None:
    forms = of(bundle(report), "DiagnosticReport")[0]["presentedForm"]
    by_name = {form["title"]: form for form in forms}
    assert base64.b64decode(by_name["report.pdf"]["data"]) == report.file("report.pdf")
    assert all("url" not in form for form in forms)


@pytest.mark.parametrize(
    ("standing", "status"),
    [
        (Standing.UNSIGNED, "preliminary"),
        (Standing.SIGNED, "final"),
        (Standing.CORRECTED, "corrected"),
    ],
)
def test_a_signature_changes_the_status_of_report_and_observations(
    report: Parcel, standing: Standing, status: str
) -> None:
    made = bundle(report, standing)
    found = of(made, "DiagnosticReport") + of(made, "Observation")
    assert {one["status"] for one in found} == {status}


def test_a_patient_of_whom_little_is_known_is_valid() -> None:
    made = patient(PatientIdentity("7", "", "1950", "", ""), SYSTEM)
    assert made == {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": "7"}]}


def test_objects_are_chosen_by_the_first_word_of_their_names() -> None:
    names = (
        "sr.dcm",
        "seg.dcm",
        "gsps.dcm",
        "gsps_2.dcm",
        "key_1.dcm",
        "key_1_axial.png",
        "pdf.dcm",
    )
    report = ReportReady(artefacts=[Artefact(name=name) for name in names])
    assert [one.name for one in objects_of(report, ["gsps", "key"])] == [
        "gsps.dcm",
        "gsps_2.dcm",
        "key_1.dcm",
    ]
