"""The report as HL7 v2 under the pseudonym, read by another library than made it."""

from __future__ import annotations

from dataclasses import replace

import hl7

from lungmesh.report.content import Content
from lungmesh.report.hl7 import escaped, oru
from tests.unit.report.conftest import Exam


def read(content: Content) -> hl7.Message:
    return hl7.parse(oru(content).decode())


def test_it_is_preliminary_and_of_the_pseudonym(exam: Exam) -> None:
    message = read(exam.content)
    assert str(message.segment("MSH")[9]) == "ORU^R01^ORU_R01"
    assert str(message.segment("PID")[3]) == f"{exam.content.ids['patient']}^^^LUNGMESH^PI"
    assert str(message.segment("OBR")[25]) == "P"
    assert {str(one[11]) for one in message.segments("OBX")} == {"P"}
    study = [one for one in message.segments("OBX") if str(one[3]).startswith("110180^")]
    assert str(study[0][5]) == exam.content.ids["study_instance_uid"]


def test_each_nodule_has_its_observations_under_its_number(exam: Exam) -> None:
    by_part: dict[str, list[str]] = {}
    for one in read(exam.content).segments("OBX"):
        by_part.setdefault(str(one[4]), []).append(str(one[3]).split("^")[1])
    for nodule in exam.content.nodules:
        assert {"Nodule type", "Long axis", "Diameter", "Volume", "Growth class"} <= set(
            by_part[str(nodule.number)]
        )


def test_without_nodules_it_says_so(exam: Exam) -> None:
    values = [str(one[5]) for one in read(replace(exam.content, nodules=())).segments("OBX")]
    assert any(value.startswith("no_nodule^") for value in values)


def test_a_study_without_a_date_gives_a_valid_message(exam: Exam) -> None:
    undated = replace(exam.content, exam=replace(exam.content.exam, study_date=""))
    assert str(read(undated).segment("OBR")[7]) == ""


def test_the_same_edition_gives_the_same_bytes_and_another_another_control_id(exam: Exam) -> None:
    content = exam.content
    assert oru(content) == oru(content)
    later = replace(content, ids={**content.ids, "edition": 2})
    ids = [str(read(one).segment("MSH")[10]) for one in (content, later)]
    assert len({*ids}) == 2
    assert max(map(len, ids)) <= 20


def test_signs_of_the_encoding_come_back_as_they_were() -> None:
    odd = "a|b^c&d~e\\f"
    message = hl7.parse("MSH|^~\\&|A\r" + f"OBX|1|ST|||{escaped(odd)}\r")
    assert message.unescape(str(message.segment("OBX")[5])) == odd
