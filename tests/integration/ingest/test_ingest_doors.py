"""Each door with a real peer: what goes in comes out as one study.received."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator

import grpc
import httpx
import psycopg
import pytest
from kafka import KafkaProducer
from sqlalchemy.engine import make_url

from lungmesh.mesh import envelope
from lungmesh.v1.ingest_pb2 import (
    STUDY_STATE_DONE,
    STUDY_STATE_PROCESSING,
    STUDY_STATE_RECEIVING,
    RestoreIdentityRequest,
    StoreRequest,
)
from lungmesh.v1.mdt_pb2 import MdtOption, MdtRecommended
from lungmesh.v1.report_pb2 import Artefact, ReportReady
from lungmesh.v1.study_pb2 import (
    CLOSED_BY_ASSOCIATION_RELEASE,
    CLOSED_BY_EXPLICIT_CALL,
    CLOSED_BY_QUIET_PERIOD,
    PRIORITY_BACKFILL,
    PRIORITY_STAT,
    SEX_FEMALE,
    BlobRef,
    ClinicalContext,
    StudyRef,
)
from lungmesh.v1.volume_pb2 import ModelVersion
from tests.integration.ingest.conftest import StartIngest
from tests.support.bad_dicom import Sender, encoded
from tests.support.ingest import (
    AE_TITLE,
    RESTORE_TOKEN,
    TENANT,
    IngestProcess,
    ct_slice,
    multipart,
    study_uid,
    until,
    write_study,
)

pytestmark = pytest.mark.usefixtures("dcmtk")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ingest(request: pytest.FixtureRequest, start_ingest: StartIngest) -> IngestProcess:
    """An ingest with short waits, on either database."""
    settings = {"QUIET_SECONDS": "1.2", "RELEASE_GRACE_SECONDS": "0.8"}
    if request.param == "postgresql":
        url = make_url(request.getfixturevalue("postgres_url"))
        name = f"ingest_{uuid.uuid4().hex}"
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        url = url.set(database=name)
        settings["LUNGMESH_DATABASE_URL"] = url.render_as_string(hide_password=False)
    return start_ingest(**settings)


@pytest.fixture
def word(request: pytest.FixtureRequest) -> str:
    """A word for this test's own study."""
    return str(request.node.name)


def send(ingest: IngestProcess, word: str, *numbers: int) -> None:
    """Send slices over one association by pynetdicom."""
    files = [encoded(ct_slice(word, number)) for number in numbers]
    sender = Sender(ingest.ports["dicom"], files)
    for file in files:
        assert sender.send(file).Status == 0
    sender.release()


def test_echoscu_gets_its_answer(ingest: IngestProcess) -> None:
    command = ["echoscu", "-aec", AE_TITLE, "127.0.0.1", str(ingest.ports["dicom"])]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_call_right_after_the_association_closes_the_study_once_with_what_the_call_says(
    ingest: IngestProcess, word: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = write_study(tmp_path_factory.mktemp("study"), word, slices=5)
    sent = ingest.storescu(*files)
    assert sent.returncode == 0, sent.stderr
    study = ingest.close_study(word, PRIORITY_STAT, ClinicalContext(ever_smoker=True))
    assert study.revision == 1
    [event] = ingest.tap.wait(word)
    assert event.study == study
    assert event.closed_by == CLOSED_BY_EXPLICIT_CALL
    assert event.instance_count == 5
    assert event.clinical == ClinicalContext(age_years=65, sex=SEX_FEMALE, ever_smoker=True)
    [series] = ingest.manifest(event).series
    assert series.modality == "CT"
    kept = {one.sop_instance_uid: ingest.blobs.get(one.file) for one in series.instances}
    for file in files:
        [data] = [data for data in kept.values() if file.read_bytes()[-2048:] == data[-2048:]]
        assert data[128:132] == b"DICM"


def test_without_a_call_the_release_closes_the_study(ingest: IngestProcess, word: str) -> None:
    send(ingest, word, 1, 2, 3)
    during = ingest.get_study(word)
    assert during.state == STUDY_STATE_RECEIVING
    assert "3 new CT images" in during.reason
    [event] = ingest.tap.wait(word)
    assert event.closed_by == CLOSED_BY_ASSOCIATION_RELEASE
    after = ingest.get_study(word)
    assert (after.state, after.instance_count) == (STUDY_STATE_PROCESSING, 3)
    assert "association release" in after.reason
    assert after.since.ToSeconds() > 0


def test_a_study_over_four_associations_is_one_study(ingest: IngestProcess, word: str) -> None:
    files = [encoded(ct_slice(word, number)) for number in range(1, 13)]
    senders = [Sender(ingest.ports["dicom"], files) for _ in range(4)]
    for number, file in enumerate(files):
        assert senders[number % 4].send(file).Status == 0
    for sender in senders:
        sender.release()
    [event] = ingest.tap.wait(word)
    assert event.instance_count == 12


def test_stow_takes_a_study_and_the_quiet_period_closes_it(
    ingest: IngestProcess, word: str
) -> None:
    address = f"http://127.0.0.1:{ingest.ports['stow']}/dicomweb/studies"
    body, headers = multipart([encoded(ct_slice(word, number)) for number in (1, 2, 3)])
    answer = httpx.post(address, content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    stored = answer.json()["00081199"]["Value"]
    assert {item["00081155"]["Value"][0] for item in stored} == {
        ct_slice(word, number).SOPInstanceUID for number in (1, 2, 3)
    }
    [event] = ingest.tap.wait(word)
    assert (event.closed_by, event.instance_count) == (CLOSED_BY_QUIET_PERIOD, 3)


def test_stow_says_what_it_does_not_take(ingest: IngestProcess, word: str) -> None:
    address = f"http://127.0.0.1:{ingest.ports['stow']}/dicomweb/studies"
    good, headers = multipart([encoded(ct_slice(word))])

    def status(body: bytes, **changes: str) -> int:
        changed = {**headers, **{key.replace("_", "-"): value for key, value in changes.items()}}
        return httpx.post(address, content=body, headers=changed).status_code

    assert status(b"{}", content_type="application/json") == 415
    kind = 'multipart/related; type="application/dicom+xml"; boundary=b0undary'
    assert status(good, content_type=kind) == 415
    assert status(good.replace(b"application/dicom", b"image/jpeg")) == 415
    assert status(good, content_type='multipart/related; type="application/dicom"') == 400
    assert status(good[:-40]) == 400
    assert status(b"no parts at all") == 400
    assert status(good, accept="text/html") == 406
    assert status(good, accept="application/dicom+json;q=0.9") == 200
    single = {"content_type": "application/dicom"}
    assert status(encoded(ct_slice(word)), **single) == 200


def test_a_grpc_stream_is_an_association(ingest: IngestProcess, word: str) -> None:
    parts = [
        StoreRequest(tenant=TENANT, data=encoded(ct_slice(word, number)), last=True)
        for number in (1, 2)
    ]
    with ingest.stub() as stub:
        assert [one.status for one in stub.Store(iter(parts), timeout=20).outcomes] == [0, 0]
        unknown = [StoreRequest(tenant="nobody", data=b"x", last=True)]
        with pytest.raises(grpc.RpcError) as caught:
            stub.Store(iter(unknown), timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    [event] = ingest.tap.wait(word)
    assert event.closed_by == CLOSED_BY_ASSOCIATION_RELEASE


def test_repeated_instances_change_nothing_and_a_late_one_makes_a_revision(
    ingest: IngestProcess, word: str
) -> None:
    send(ingest, word, 1, 2)
    [first] = ingest.tap.wait(word)
    send(ingest, word, 1, 2)
    send(ingest, word, 1, 2, 3)
    [first_again, second] = ingest.tap.wait(word, 2)
    assert first_again == first
    assert (second.study.revision, second.instance_count) == (2, 3)
    assert second.study.patient == first.study.patient
    assert second.study.study_id == first.study.study_id
    [series] = ingest.manifest(second).series
    assert len(series.instances) == 3


def test_a_call_on_a_closed_study_makes_a_revision_only_when_it_adds_something(
    ingest: IngestProcess, word: str
) -> None:
    send(ingest, word, 1, 2)
    first = ingest.close_study(word)
    assert ingest.close_study(word) == first
    assert ingest.close_study(word, clinical=ClinicalContext(age_years=65)) == first
    second = ingest.close_study(word, clinical=ClinicalContext(emphysema=True))
    assert second.revision == 2
    assert ingest.close_study(word, clinical=ClinicalContext(emphysema=True)) == second
    third = ingest.close_study(word, PRIORITY_BACKFILL)
    assert (third.revision, third.priority) == (3, PRIORITY_BACKFILL)
    events = {event.study.revision: event for event in ingest.tap.wait(word, 3)}
    assert not events[1].clinical.HasField("emphysema")
    assert events[3].clinical.emphysema
    assert [events[n].instance_count for n in (1, 2, 3)] == [2, 2, 2]


def test_an_unknown_study_is_not_found(ingest: IngestProcess) -> None:
    for call in (lambda: ingest.close_study("never sent"), lambda: ingest.get_study("never sent")):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_report_of_another_kind_comes_along_and_makes_no_revision(
    ingest: IngestProcess, word: str
) -> None:
    dose = ct_slice(
        word,
        99,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67",
        Modality="SR",
        SeriesInstanceUID="1.2.3.99",
        PixelData=None,
    )
    files = [encoded(ct_slice(word)), encoded(dose)]
    sender = Sender(ingest.ports["dicom"], files)
    assert sender.send(files[0]).Status == 0
    ingest.close_study(word)
    assert sender.send(files[1]).Status == 0
    sender.release()
    until(lambda: ingest.get_study(word).instance_count == 2, 10, "the SR is kept")
    [event] = ingest.tap.wait(word)
    assert event.instance_count == 1
    late = ingest.close_study(word, PRIORITY_STAT)
    assert late.revision == 2
    [_, second] = ingest.tap.wait(word, 2)
    assert {one.modality for one in ingest.manifest(second).series} == {"CT", "SR"}


def find(ingest: IngestProcess, *keys: str) -> str:
    """Ask with findscu; return what it prints of the answers."""
    options = [option for key in keys for option in ("-k", key)]
    command = ["findscu", "-v", "-S", "-aec", AE_TITLE, "127.0.0.1", str(ingest.ports["dicom"])]
    asked = subprocess.run(
        [*command, "-k", "QueryRetrieveLevel=STUDY", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout + asked.stderr


def test_findscu_sees_the_study_and_its_state_but_not_whose_it_is(
    ingest: IngestProcess, word: str
) -> None:
    send(ingest, word, 1, 2)
    ingest.close_study(word)
    shown = find(
        ingest,
        f"StudyInstanceUID={study_uid(word)}",
        "PatientID",
        "PatientName",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedInstances",
        "(0032,000a)",
        "(0032,4000)",
    )
    assert study_uid(word) in shown
    for part in ("PROCESSING", "[CT]", "[2 ]", "explicit call"):
        assert part in shown, shown
    assert "SECRET" not in shown
    assert "Secret" not in shown


def test_findscu_finds_a_patients_studies_by_the_whole_id_only(
    ingest: IngestProcess, word: str
) -> None:
    send(ingest, word, 1)
    ingest.close_study(word)
    assert study_uid(word) in find(ingest, "StudyInstanceUID", f"PatientID=SECRET-{word}")
    assert study_uid(word) not in find(ingest, "StudyInstanceUID", "PatientID=SECRET")
    for query in ("PatientID=SECRET*", "PatientName=Secret^Name", "StudyDate=20260102"):
        answer = find(ingest, "StudyInstanceUID", query)
        assert "DataSetDoesNotMatchSOPClass" in answer, answer


def test_only_the_bearer_of_the_token_turns_a_pseudonym_back(
    ingest: IngestProcess, word: str
) -> None:
    send(ingest, word, 1)
    study = ingest.close_study(word)
    request = RestoreIdentityRequest(tenant=TENANT, patient=study.patient)
    with ingest.stub() as stub:
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            with pytest.raises(grpc.RpcError) as caught:
                stub.RestoreIdentity(request, metadata=metadata, timeout=20)
            code = caught.value.code()
            assert code is grpc.StatusCode.PERMISSION_DENIED
        token = (("authorization", f"Bearer {RESTORE_TOKEN}"),)
        identity = stub.RestoreIdentity(request, metadata=token, timeout=20)
        other = RestoreIdentityRequest(tenant="other", patient=study.patient)
        with pytest.raises(grpc.RpcError) as caught:
            stub.RestoreIdentity(other, metadata=token, timeout=20)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert identity.patient_id == f"SECRET-{word}"
    assert identity.patient_name == "Secret^Name"
    assert identity.patient_birth_date == "19600203"


def test_an_ae_title_without_tenant_is_rejected_with_the_right_reason(
    ingest: IngestProcess,
) -> None:
    command = ["echoscu", "-v", "-aec", "NOBODY", "127.0.0.1", str(ingest.ports["dicom"])]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert "Called AE Title Not Recognized" in answer.stderr


def outcomes(study: StudyRef) -> Iterator[ReportReady | MdtRecommended]:
    """Yield what the end of a study's way sends."""
    blob = BlobRef(key="a/b", sha256="0" * 64)
    models = [ModelVersion(name="m", version="1")]
    yield ReportReady(
        study=study,
        content_sha256="0" * 64,
        artefacts=[Artefact(name="report.pdf", content=blob)],
        models=models,
    )
    option = MdtOption(text_en="a", text_zh="b", source="c")
    yield MdtRecommended(study=study, options=[option], models=models)


def test_report_and_recommendation_make_the_study_done(ingest: IngestProcess, word: str) -> None:
    send(ingest, word, 1)
    study = ingest.close_study(word)
    producer = KafkaProducer(bootstrap_servers=ingest.broker.bootstrap)
    for event in outcomes(study):
        record = envelope.outgoing(event, str(uuid.uuid4()), "test")
        headers = list(record.headers.items())
        producer.send(record.topic, record.value, record.key, headers).get(10)
    producer.close()
    until(lambda: ingest.get_study(word).state == STUDY_STATE_DONE, 20, "the study's end")
    assert "revision 1" in ingest.get_study(word).reason


def test_no_event_came_twice(ingest: IngestProcess) -> None:
    """Runs late: every test above has sent its study."""
    revisions = [(event.study.study_id, event.study.revision) for event in ingest.tap.events]
    assert len(revisions) > 10
    assert len(set(revisions)) == len(revisions)


def test_nothing_of_a_patient_stands_in_logs_metrics_keys_or_the_database(
    ingest: IngestProcess,
) -> None:
    """Runs last: every test above has sent its patient."""
    metrics = httpx.get(f"http://127.0.0.1:{ingest.ports['metrics']}/metrics").text
    assert "lungmesh_ingest_objects_total" in metrics
    names = "\n".join(str(path) for path in ingest.folder.rglob("*"))
    texts = [metrics, names, ingest.log.read_text()]
    texts += [path.read_bytes().decode("latin-1") for path in ingest.folder.glob("ingest.db*")]
    for text in texts:
        assert "SECRET" not in text
        assert "Secret" not in text
