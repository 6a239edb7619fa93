"""Which objects are there already: what makes a repeat harmless and a conflict visible."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from lungmesh.ingest.header import Header
from lungmesh.ingest.refusals import Rejection
from lungmesh.ingest.spool import Spooled

StudyKey = tuple[str, str]


@dataclass
class KnownStudy:
    """A study's patient and objects.

    Attributes
    ----------
    patient_lookup
        Keyed hash of its patient; empty while nothing was accepted.
    files
        By SOP Instance UID: the object in the spool, None for one that was kept before this
        process started.
    used_at
        When it was last asked for.
    """

    patient_lookup: str
    files: dict[str, Spooled | None] = field(default_factory=dict)
    used_at: float = 0.0


@dataclass(frozen=True)
class Claim:
    """What became of a claim: a new object, or one that was there (`earlier`)."""

    new: bool
    earlier: Spooled | None = None


class Index:
    """Knows the studies in use; safe to call from any thread.

    Parameters
    ----------
    load
        Reads a study that is not known here; None when there is none.
    """

    def __init__(self, load: Callable[[str, str], KnownStudy | None]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._studies: dict[StudyKey, KnownStudy] = {}

    def claim(
        self, tenant: str, header: Header, patient_lookup: str, file: Spooled, at: float
    ) -> Claim:
        """Take an object's UID for the study.

        Raises Rejection (mixed_patients) when the study is of another patient, and what `load`
        raises.
        """
        key = (tenant, header.study_instance_uid)
        while True:
            with self._lock:
                study = self._studies.get(key)
                if study is not None:
                    return self._claim(study, header, patient_lookup, file, at)
            loaded = self._load(*key) or KnownStudy("")
            with self._lock:
                loaded.used_at = at
                self._studies.setdefault(key, loaded)

    @staticmethod
    def _claim(
        study: KnownStudy, header: Header, patient_lookup: str, file: Spooled, at: float
    ) -> Claim:
        study.used_at = at
        study.patient_lookup = study.patient_lookup or patient_lookup
        if study.patient_lookup != patient_lookup:
            raise Rejection("mixed_patients", "The study already holds objects of another patient")
        uid = header.sop_instance_uid
        if uid in study.files:
            return Claim(new=False, earlier=study.files[uid])
        study.files[uid] = file
        return Claim(new=True)

    def forget(self, unused_since: float) -> None:
        """Drop studies that nothing asked for since; they are read again when needed."""
        with self._lock:
            for key in [key for key, one in self._studies.items() if one.used_at < unused_since]:
                del self._studies[key]
