"""The stage: FollowupUpdated in, every artefact written, ReportReady out."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from google.protobuf.message import Message
from pydicom.dataset import Dataset

from lungmesh.mesh import Context, Stage
from lungmesh.mesh.arrays import open_array, read_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.headers import read_headers
from lungmesh.mesh.revisions import edition_folder, read_revision, revision_key
from lungmesh.report import fhir, hl7, text
from lungmesh.report.content import Content, Nodule, content_sha256
from lungmesh.report.encapsulated_pdf import encapsulated_pdf
from lungmesh.report.facts import from_event
from lungmesh.report.html import html
from lungmesh.report.key_selection import key_selection
from lungmesh.report.keyimages import Box, box_around, key_images, picture_name, pictures_of
from lungmesh.report.objects import VERSION
from lungmesh.report.pdf import pdf
from lungmesh.report.presentation_state import presentation_states
from lungmesh.report.radiotherapy import structure_set
from lungmesh.report.secondary_capture import key_image
from lungmesh.report.segmentation import segmentation, solid_parts
from lungmesh.report.settings import ReportSettings
from lungmesh.report.structured_report import structured_report
from lungmesh.report.summary import summary
from lungmesh.report.wording import LANGUAGES, packaged, templates
from lungmesh.v1 import followup_pb2, nodule_pb2, report_pb2, volume_pb2

_MEDIA_TYPES = {
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "dcm": "application/dicom",
    "png": "image/png",
    "hl7": "application/hl7-v2; charset=utf-8",
}


class ReportStage(Stage):
    """Writes the report in every form that leaves the mesh."""

    name = "report"
    consumes = (followup_pb2.FollowupUpdated,)
    produces = (report_pb2.ReportReady,)
    version = VERSION

    def __init__(self, settings: ReportSettings) -> None:
        self._key_image_nodules = settings.key_image_nodules
        self.concurrency = settings.concurrency
        self.deadline_seconds = settings.deadline_seconds
        self._words = templates(settings.templates) if settings.templates else packaged()
        if self._words.digest:
            # Other templates give another report.
            self.version = f"{VERSION}+{self._words.digest[:16]}"

    def handle(self, event: followup_pb2.FollowupUpdated, ctx: Context) -> Sequence[Message]:
        """Write every artefact and the index of the report."""
        volume = event.exam.volume
        headers = read_headers(ctx.blobs, volume.headers)
        words = self._words
        content = replace(from_event(event, headers), templates=words.digest)
        digest = content_sha256(content, [text.body(content, name, words) for name in LANGUAGES])
        masks = _masks(ctx.blobs, event.nodules)
        ctx.progress(0.1, "drawing key images")
        shown = self._shown(content)
        pictures = dict(_pictures(ctx, volume, shown, masks))
        ctx.progress(0.5, "writing texts")
        readable = {
            "report.zh.txt": text.report(content, "zh", words).encode(),
            "report.en.txt": text.report(content, "en", words).encode(),
            "report.pdf": pdf(content, pictures, digest, words),
        }
        pages = {
            f"report.{name}.html": html(content, name, pictures, digest, words)
            for name in LANGUAGES
        }
        ctx.progress(0.7, "writing DICOM objects")
        objects = _objects(content, masks, headers, shown, pictures, readable["report.pdf"])
        files = {
            "summary.json": summary(content, digest),
            **readable,
            **pages,
            **{name: _encoded(dataset) for name, dataset in objects},
            **pictures,
            "fhir.json": fhir.bundle(content, readable, words),
            "oru.hl7": hl7.oru(content, words),
        }
        ctx.progress(0.9, "keeping the report")
        study = event.study
        place = (study.tenant, study.study_id, self.name, study.revision, event.edition)
        prefix = edition_folder(*place)
        ready = report_pb2.ReportReady(
            study=study,
            content_sha256=digest,
            artefacts=[
                report_pb2.Artefact(
                    name=name,
                    content=ctx.blobs.put(
                        f"{prefix}/{name}", data, _MEDIA_TYPES[name.rsplit(".", 1)[1]]
                    ),
                )
                for name, data in files.items()
            ],
            exam_categories=event.exam_categories,
            nodule_count=len(content.nodules),
            models=[
                volume_pb2.ModelVersion(name=model.name, version=model.version)
                for model in content.models
            ],
            edition=event.edition,
        )
        # Last, so that a report that can be found is whole.
        ctx.blobs.put(
            revision_key(*place),
            ready.SerializeToString(deterministic=True),
        )
        return [ready]

    def _shown(self, content: Content) -> list[Nodule]:
        """Return the nodules that get key images: the first by number, and the deciding one."""
        first = content.nodules[: self._key_image_nodules]
        lead = content.dominant
        if lead is not None and self._key_image_nodules and lead not in first:
            return [*first[:-1], lead]
        return list(first)


def find_report(
    blobs: BlobStore, tenant: str, study_id: str, revision: int
) -> report_pb2.ReportReady:
    """Return the event of a revision's newest edition; revision 0 means the newest.

    Raises BlobMissing when there is none.
    """
    missing = "no report of this study is written"
    kept = read_revision(blobs, tenant, study_id, ReportStage.name, revision, missing)
    return report_pb2.ReportReady.FromString(kept)


def _masks(blobs: BlobStore, nodules: Sequence[nodule_pb2.Nodule]) -> dict[int, Box]:
    masks = {}
    for nodule in nodules:
        x, y, z = nodule.mask.offset
        masks[nodule.number] = Box(read_array(blobs, nodule.mask.voxels), (x, y, z))
    return masks


def _pictures(
    ctx: Context, volume: volume_pb2.Volume, nodules: Sequence[Nodule], masks: dict[int, Box]
) -> Iterator[tuple[str, bytes]]:
    grid = Grid.from_proto(volume.geometry)
    hu = open_array(ctx.blobs, volume.hu)
    for done, nodule in enumerate(nodules, 1):
        z, y, x = box_around(nodule, grid)
        around = Box(np.asarray(hu[z, y, x]), (x.start, y.start, z.start))
        for plane, png in key_images(nodule, around, masks[nodule.number], grid):
            yield picture_name(nodule, plane), png
        ctx.progress(0.1 + 0.4 * done / len(nodules), "drawing key images")


def _objects(
    content: Content,
    masks: dict[int, Box],
    headers: Sequence[Dataset],
    shown: Sequence[Nodule],
    pictures: Mapping[str, bytes],
    written: bytes,
) -> Iterator[tuple[str, Dataset]]:
    """Yield the DICOM objects by name; `written` is the report as PDF."""
    seg = segmentation(content, masks, headers) if content.nodules else None
    sr = structured_report(content, seg, headers)
    yield "sr.dcm", sr
    yield "pdf.dcm", encapsulated_pdf(content, written, sr, headers[0])
    if seg is None:
        return
    yield "seg.dcm", seg
    solid = solid_parts(content, masks, headers)
    if solid is not None:
        yield "seg_solid.dcm", solid
    for number, state in enumerate(presentation_states(content, masks, headers), 1):
        yield "gsps.dcm" if number == 1 else f"gsps_{number}.dcm", state
    keys = []
    for nodule in shown:
        keys.append(key_image(content, nodule, pictures_of(nodule, pictures), headers))
        yield f"key_{nodule.number}.dcm", keys[-1]
    if keys:
        yield "key_selection.dcm", key_selection(content, shown, keys, headers)
    structures = structure_set(content, masks, headers)
    if structures is not None:
        yield "rtstruct.dcm", structures


def _encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
