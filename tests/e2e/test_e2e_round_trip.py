"""From the PACS to ingest, through every service, and back into the same study of the PACS."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.e2e.conftest import STUDY_SECONDS, Up, command
from tests.support.mesh import wait_for
from tests.support.pacs import Orthanc

NAME, NUMBER = "Wang^Xiaoming=王^小明", "E2E-ROUND-7"
RESULTS = {"SR", "SEG", "PR", "DOC"}


@pytest.fixture
def study(small_study: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """A real CT of a patient with a Chinese name."""
    paths = []
    for path in sorted(small_study("round", NUMBER).iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientName, dataset.PatientBirthDate = NAME, "19500203"
        dataset.PatientSex = "M"
        del dataset.PatientIdentityRemoved, dataset.DeidentificationMethod
        dataset.save_as(tmp_path / path.name)
        paths.append(tmp_path / path.name)
    return paths


def test_a_study_sent_by_the_pacs_comes_back_as_results_attached_to_it(
    up: Up, pacs: Orthanc | None, study: list[Path]
) -> None:
    if pacs is None:
        pytest.skip("Orthanc is not installed")
    for path in study:
        kept = pacs.ask("instances", "POST", path.read_bytes())
    parent = pacs.ask(f"instances/{kept['ID']}/study")["ID"]
    host, port = up.address("ingest", "dicom").split(":")
    modality = json.dumps(["LUNGMESH", host, int(port)]).encode()
    pacs.ask("modalities/mesh", "PUT", modality)
    sent = pacs.ask("modalities/mesh/store", "POST", parent.encode())
    assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (len(study), 0)

    def kinds() -> Counter[str]:
        series = pacs.ask(f"studies/{parent}/series")
        return Counter(one["MainDicomTags"]["Modality"] for one in series)

    wait_for(lambda: set(kinds()) >= RESULTS, STUDY_SECONDS, "the results in the study")

    def place() -> dict[str, Any]:
        (listed,) = command("deliveries", "list", "--data", up.data).of("destinations")
        (row,) = [row for row in listed["rows"] if row["destination"] == "pacs"]
        found: dict[str, Any] = row
        return found

    wait_for(lambda: place()["waiting"] == 0, 60, "the last object's answer")
    assert place()["dead"] == 0
    stored = pacs.ask("tools/find", "POST", _query())
    assert [one["ID"] for one in stored] == [parent]
    originals = {
        str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in study
    }
    results = _results(pacs, parent)
    assert results
    for tags in results:
        assert (tags["PatientID"], tags["PatientName"]) == (NUMBER, NAME)
        assert (tags["PatientBirthDate"], tags["PatientSex"]) == ("19500203", "M")
        assert "PatientIdentityRemoved" not in tags
    (report,) = [tags for tags in results if tags["Modality"] == "SR"]
    evidence = report["CurrentRequestedProcedureEvidenceSequence"][0]
    referred = {
        one["ReferencedSOPInstanceUID"]
        for series in evidence["ReferencedSeriesSequence"]
        for one in series["ReferencedSOPSequence"]
    }
    assert referred & originals
    assert referred <= originals | {tags["SOPInstanceUID"] for tags in results}
    for log in (up.data / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert NUMBER not in text, log.name
        assert "小明" not in text, log.name


def _query() -> bytes:
    return json.dumps({"Level": "Study", "Query": {"PatientID": NUMBER}, "Expand": True}).encode()


def _results(pacs: Orthanc, study: str) -> list[dict[str, Any]]:
    """Return the tags of what is no CT image."""
    found = []
    for series in pacs.ask(f"studies/{study}/series"):
        if series["MainDicomTags"]["Modality"] != "CT":
            found += [pacs.ask(f"instances/{name}/simplified-tags") for name in series["Instances"]]
    return found
