"""C-FIND at STUDY level: which studies came, and in what state. It gives no identity away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from pydicom.dataset import Dataset

from lungmesh.ingest import store
from lungmesh.ingest.identity import Vault
from lungmesh.ingest.loader import Loader
from lungmesh.ingest.part10 import text
from lungmesh.ingest.status import failure
from lungmesh.ingest.store import StudyRow
from lungmesh.mesh.errors import Unavailable
from lungmesh.v1.ingest_pb2 import STUDY_STATE_RECEIVING, StudyState

_PENDING = 0xFF00
_CANCELLED = 0xFE00
_OUT_OF_RESOURCES = 0xA700
_WRONG_IDENTIFIER = 0xA900
# A value in another key would narrow the answer, and ingest does not keep what it needs for that.
_MATCHED = {
    *("QueryRetrieveLevel", "SpecificCharacterSet", "StudyInstanceUID"),
    *("PatientID", "IssuerOfPatientID"),
}
_MOST_ANSWERS = 1000


class Finder:
    """Answers C-FIND from the database.

    Parameters
    ----------
    settle
        Brings what was acknowledged into the database.
    """

    def __init__(self, loader: Loader, vault: Vault, settle: Callable[[], Awaitable[None]]) -> None:
        self._loader, self._vault, self._settle = loader, vault, settle

    def find(self, tenant: str, event: Any) -> Iterator[tuple[Any, Dataset | None]]:
        """Yield a pending answer a study, or one failure."""
        try:
            query: Dataset = event.identifier
            wrong = _wrong_with(query)
        except Exception:
            # A query that cannot be parsed is the asker's fault, whatever the parser says.
            wrong, query = "The query cannot be read", Dataset()
        if wrong:
            yield failure(_WRONG_IDENTIFIER, wrong), None
            return
        try:
            answers = self._loader.wait(self._answers(tenant, query))
        except Unavailable:
            yield failure(_OUT_OF_RESOURCES, "The database is away: ask again later"), None
            return
        for answer in answers:
            if event.is_cancelled:
                yield _CANCELLED, None
                return
            yield _PENDING, answer

    async def _answers(self, tenant: str, query: Dataset) -> list[Dataset]:
        await self._settle()
        asked = query.get("StudyInstanceUID") or []
        uids = [asked] if isinstance(asked, str) else [str(uid) for uid in asked]
        patient_id, issuer = text(query, "PatientID"), text(query, "IssuerOfPatientID")
        lookup = self._vault.lookup(tenant, patient_id, issuer) if patient_id else ""
        async with self._loader.sessions() as session:
            rows = await store.studies(session, tenant, uids, lookup, _MOST_ANSWERS)
            counts = await store.counts(session, tenant, [row.study_id for row in rows])
        return [_answer(query, row, *counts.get(row.study_id, (0, 0, []))) for row in rows]


def state_of(row: StudyRow) -> StudyState.ValueType:
    """Return the study's state: a study that receives is receiving, whatever it was before."""
    return STUDY_STATE_RECEIVING if row.receiving else StudyState.ValueType(row.state)


def _wrong_with(query: Dataset) -> str:
    if text(query, "QueryRetrieveLevel") != "STUDY":
        return "Only QueryRetrieveLevel STUDY is answered"
    for element in query:
        value = str(element.value or "").strip("* ")
        if value and element.keyword not in _MATCHED and element.VR != "SQ":
            return f"{element.keyword or element.tag} is no key that can be matched"
    if any(sign in text(query, "PatientID") for sign in "*?"):
        return "PatientID is matched whole, without wildcards"
    return ""


def _answer(
    query: Dataset, row: StudyRow, objects: int, series: int, modalities: list[str]
) -> Dataset:
    known = {
        "QueryRetrieveLevel": "STUDY",
        "StudyInstanceUID": row.study_instance_uid,
        # The asker's own words, for it matched them; never anything it did not know.
        "PatientID": text(query, "PatientID"),
        "IssuerOfPatientID": text(query, "IssuerOfPatientID"),
        "NumberOfStudyRelatedInstances": objects,
        "NumberOfStudyRelatedSeries": series,
        "ModalitiesInStudy": modalities,
        "StudyStatusID": StudyState.Name(state_of(row)).removeprefix("STUDY_STATE_"),
        "StudyComments": "" if row.receiving else row.reason,
    }
    answer = Dataset()
    for element in query:
        if element.keyword in known:
            setattr(answer, element.keyword, known[element.keyword])
        elif element.keyword and element.keyword != "SpecificCharacterSet":
            setattr(answer, element.keyword, [] if element.VR == "SQ" else "")
    for keyword in ("QueryRetrieveLevel", "StudyInstanceUID"):
        setattr(answer, keyword, known[keyword])
    answer.SpecificCharacterSet = "ISO_IR 192"
    return answer
