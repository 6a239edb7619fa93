"""A received study in a blob store, as ingest leaves it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pydicom
from google.protobuf.timestamp_pb2 import Timestamp

from lungmesh.mesh import ids
from lungmesh.mesh.blobs import BlobStore
from lungmesh.v1.study_pb2 import (
    CLOSED_BY_EXPLICIT_CALL,
    PRIORITY_ROUTINE,
    ManifestInstance,
    ManifestSeries,
    StudyManifest,
    StudyReceived,
    StudyRef,
)

TENANT = "hospital"
PSEUDONYM = "11111111-2222-4333-8444-555555555555"


def receive(blobs: BlobStore, files: Iterable[Path]) -> StudyReceived:
    """Keep DICOM files and their manifest, in the files' order, and return the event."""
    series: dict[str, ManifestSeries] = defaultdict(ManifestSeries)
    study_uid = ""
    count = 0
    for path in files:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        study_uid = header.StudyInstanceUID
        study = ids.study_id(TENANT, study_uid)
        name = ids.deterministic_id("instance", header.SOPInstanceUID)
        one = series[header.SeriesInstanceUID]
        one.series_instance_uid = header.SeriesInstanceUID
        one.modality = header.Modality
        one.instances.append(
            ManifestInstance(
                sop_instance_uid=header.SOPInstanceUID,
                sop_class_uid=header.SOPClassUID,
                transfer_syntax_uid=header.file_meta.TransferSyntaxUID,
                file=blobs.put(f"{TENANT}/{study}/instances/{name}.dcm", path.read_bytes()),
            )
        )
        count += 1
    manifest = StudyManifest(study_instance_uid=study_uid, series=list(series.values()))
    key = f"{TENANT}/{study}/r1/ingest/manifest"
    return StudyReceived(
        study=StudyRef(
            tenant=TENANT,
            patient=PSEUDONYM,
            study_id=study,
            revision=1,
            priority=PRIORITY_ROUTINE,
        ),
        study_instance_uid=study_uid,
        manifest=blobs.put(key, manifest.SerializeToString(deterministic=True)),
        closed_by=CLOSED_BY_EXPLICIT_CALL,
        received_at=Timestamp(seconds=1),
        instance_count=count,
    )
