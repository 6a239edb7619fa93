"""Storage commitment: by a real Orthanc, and by an archive that lost what it had stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from lungmesh.v1.delivery_pb2 import (
    DELIVERY_STATE_COMMITTED,
    DELIVERY_STATE_REFUSED,
    DELIVERY_STATE_SENT,
)
from lungmesh.v1.report_pb2 import ReportReady
from tests.support.broker import Broker, free_port
from tests.support.chassis import until
from tests.support.delivering import (
    copy,
    delivered,
    delivering,
    dicom,
    states,
)
from tests.support.pacs import Scp, listening, running_orthanc

_EVENT_ALL, _EVENT_FAILURES = 1, 2
_NO_SUCH_OBJECT, _NOT_SUPPORTED = 0x0112, 0x0122


@dataclass
class Archive:
    """Stores, and answers requests for commitment on an association of its own.

    `reasons` are Failure Reasons given to a whole request, one each; 0 commits.
    """

    answer_port: int
    reasons: list[int]
    port: int = 0
    stored: list[str] = field(default_factory=list)
    asked: list[Dataset] = field(default_factory=list)

    def store(self, event: evt.Event) -> int:
        """Take an object."""
        self.stored.append(str(event.dataset.SOPInstanceUID))
        return 0

    def act(self, event: evt.Event) -> tuple[int, None]:
        """Take a request; it is answered once this association is released."""
        self.asked.append(event.action_information)
        return 0, None

    def released(self, event: evt.Event) -> None:
        """Answer what was asked on the association."""
        while self.asked:
            self._report(self.asked.pop(0))

    def _report(self, request: Dataset) -> None:
        reason = self.reasons.pop(0)
        said = Dataset()
        said.TransactionUID = request.TransactionUID
        items = []
        for asked in request.ReferencedSOPSequence:
            item = Dataset()
            item.ReferencedSOPClassUID = asked.ReferencedSOPClassUID
            item.ReferencedSOPInstanceUID = asked.ReferencedSOPInstanceUID
            if reason:
                item.FailureReason = reason
            items.append(item)
        setattr(said, "FailedSOPSequence" if reason else "ReferencedSOPSequence", Sequence(items))
        entity = AE(ae_title="PACS")
        entity.add_requested_context(StorageCommitmentPushModel)
        association = entity.associate(
            "127.0.0.1",
            self.answer_port,
            ae_title="LUNGMESH",
            ext_neg=[build_role(UID(StorageCommitmentPushModel), scp_role=True)],
        )
        assert association.is_established
        status, _ = association.send_n_event_report(
            said,
            _EVENT_FAILURES if reason else _EVENT_ALL,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        assert status.Status == 0
        association.release()


@contextmanager
def archiving(archive: Archive) -> Iterator[Archive]:
    """Run an archive."""
    entity = AE(ae_title="PACS")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax))
    entity.add_supported_context(StorageCommitmentPushModel)
    archive.port = free_port()
    server = entity.start_server(
        ("127.0.0.1", archive.port),
        block=False,
        evt_handlers=[
            (evt.EVT_C_STORE, archive.store),
            (evt.EVT_N_ACTION, archive.act),
            (evt.EVT_RELEASED, archive.released),
        ],
    )
    assert server is not None
    try:
        yield archive
    finally:
        server.shutdown()


async def test_orthanc_commits_what_it_stored(
    broker: Broker, reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    answers = free_port()
    us = {"us": ["LUNGMESH", "127.0.0.1", answers]}
    ready = copy(report, "orthanc commits")
    with running_orthanc(tmp_path, DicomModalities=us) as orthanc:
        place = dicom(orthanc.dicom_port, ae_title="ORTHANC", commitment=True)
        async with delivering(
            broker,
            tmp_path,
            reports,
            report,
            place,
            LUNGMESH_DELIVERY__DICOM_PORT=str(answers),
        ) as (service, line):
            await line.publish(ready)
            await until(lambda: delivered(line, "pacs"), 120, f"it is stored: {service.log}")

            async def committed() -> bool:
                found = await states(service, "pacs")
                return found[ready.study.study_id].state == DELIVERY_STATE_COMMITTED

            await until(committed, 60, f"it is committed: {service.log}")
        assert len(await asyncio.to_thread(orthanc.instances)) == 2


async def test_what_is_not_committed_is_sent_again_or_is_a_dead_letter(
    broker: Broker, reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    answers = free_port()
    lost, refused = copy(report, "lost"), copy(report, "refused")
    with archiving(Archive(answers, [_NO_SUCH_OBJECT, 0, _NOT_SUPPORTED])) as archive:
        place = dicom(archive.port, commitment=True)
        async with delivering(
            broker,
            tmp_path,
            reports,
            report,
            place,
            LUNGMESH_DELIVERY__DICOM_PORT=str(answers),
        ) as (service, line):

            async def state(ready: ReportReady) -> int:
                found = (await states(service, "pacs")).get(ready.study.study_id)
                return found.state if found is not None else 0

            async def is_(ready: ReportReady, wanted: int) -> bool:
                return await state(ready) == wanted

            await line.publish(lost)
            await until(
                lambda: is_(lost, DELIVERY_STATE_COMMITTED), 120, f"committed: {service.log}"
            )
            assert len(archive.stored) == 4
            assert len(set(archive.stored)) == 2
            await line.publish(refused)
            await until(lambda: is_(refused, DELIVERY_STATE_REFUSED), 120, f"dead: {service.log}")
            dead = (await states(service, "pacs"))[refused.study.study_id]
            assert "does not commit 2 objects that it stored: 0x0122" in dead.last_error


async def test_a_pacs_without_commitment_has_the_report_all_the_same(
    broker: Broker, reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    ready = copy(report, "no commitment")
    with listening(Scp()) as scp:
        async with delivering(
            broker, tmp_path, reports, report, dicom(scp.port, commitment=True)
        ) as (service, line):
            await line.publish(ready)

            async def said() -> bool:
                found = (await states(service, "pacs")).get(ready.study.study_id)
                return found is not None and bool(found.last_error)

            await until(said, 120, f"it is said: {service.log}")
            found = (await states(service, "pacs"))[ready.study.study_id]
            assert found.state == DELIVERY_STATE_SENT
            assert "takes none of our objects" in found.last_error
            assert len(delivered(line, "pacs")) == 1
