"""A patient's timeline kept up to date: whatever comes is kept, and everything is computed again.

Reading and writing are two transactions with the computing between them; the patient's version in
the store makes them one step (`store.advance`).
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from lungmesh.followup import corrections, laying, programme, registration, store, timeline
from lungmesh.followup.laying import Laying, Limits
from lungmesh.followup.programme import Line
from lungmesh.followup.registration import Exam
from lungmesh.followup.settings import FollowupSettings
from lungmesh.followup.store import KeptLaying, State
from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.blobs import BlobMissing, BlobStore
from lungmesh.mesh.errors import BadInput
from lungmesh.mesh.geometry import Grid
from lungmesh.v1.followup_pb2 import Correction, FollowupUpdated, Outcome
from lungmesh.v1.nodule_pb2 import NodulesAssessed
from lungmesh.v1.volume_pb2 import VolumeReady

log = logging.getLogger(__name__)

What = NodulesAssessed | Correction | Outcome
Progress = Callable[[float, str], None]
Place = tuple[float, float, float]


@dataclass(frozen=True)
class Update:
    """What something new does to a patient's timeline.

    Attributes
    ----------
    before, state
        Without and with what is new.
    news
        The results that say something new, in order of study date.
    results
        Every result as it now stands, likewise.
    """

    before: State
    state: State
    what: What
    news: tuple[FollowupUpdated, ...]
    results: tuple[FollowupUpdated, ...]

    async def write(self, session: AsyncSession) -> None:
        """Write all of it, in the transaction that also puts the news into the outbox.

        Raises Unavailable when another writer was faster.
        """
        state = self.state
        await store.advance(session, state)
        if isinstance(self.what, Correction):
            await store.keep_correction(session, state, self.what)
        elif isinstance(self.what, Outcome):
            await store.keep_outcome(session, state, self.what)
        else:
            newest = next(e for e in state.exams if e.study.study_id == self.what.study.study_id)
            await store.keep_exam(session, newest)
        await store.keep_results(session, state, self._rows())
        await store.keep_due(session, state, programme.due(self.results, state.outcomes))

    def _rows(self) -> list[tuple[FollowupUpdated, Line]]:
        """Return the results that are not in the store as they now stand, with their lines."""
        told = self.before.results
        kept = [told[r.study.study_id] for r in self.results if r.study.study_id in told]
        lines = {one.study_id: one for one in programme.lines(kept, self.before.outcomes)}
        now = zip(self.results, programme.lines(self.results, self.state.outcomes), strict=True)
        return [
            (result, line)
            for result, line in now
            if result is not told.get(line.study_id) or line != lines[line.study_id]
        ]


class Keeper:
    """Computes updates; several at once hold no more volumes in memory than the setting allows."""

    def __init__(
        self,
        sessions: Callable[[], async_sessionmaker[AsyncSession]],
        blobs: BlobStore,
        settings: FollowupSettings,
    ) -> None:
        self._sessions, self._blobs, self._settings = sessions, blobs, settings
        self._laying = asyncio.Semaphore(settings.concurrency)

    async def update(
        self, tenant: str, patient: str, what: What, progress: Progress | None = None
    ) -> Update:
        """Return what an exam, a correction or an outcome does; nothing but layings is written.

        Raises BadInput for a correction or an outcome that says nothing.
        """
        if isinstance(what, Correction):
            corrections.check(what)
        elif isinstance(what, Outcome):
            programme.check(what)
        async with self._sessions()() as session:
            before = await store.read(session, tenant, patient)
        state = _with(before, what)
        rules = self._settings.rules(tenant)
        layings = await self._layings(state, rules.priors, progress or _nobody)
        said = state.corrections
        folded = await asyncio.to_thread(
            timeline.fold, state.exams, said, layings, rules, state.results
        )
        news, results = timeline.changed(folded, state.results)
        return Update(before, state, what, tuple(news), tuple(results))

    async def _layings(
        self, state: State, priors: int, progress: Progress
    ) -> dict[tuple[str, str], Laying]:
        """Return the layings that the fold takes: kept ones, and new ones, which are then kept."""
        exams = {exam.study.study_id: exam for exam in state.exams}
        found: dict[tuple[str, str], Laying] = {}
        missing: dict[tuple[str, str], str] = {}
        for pair in timeline.compared(state.exams, priors):
            key = laying_key(exams[pair[0]], exams[pair[1]], self._settings.limits)
            kept = state.layings.get(pair)
            if kept is not None and kept.key == key:
                found[pair] = kept.laying
            else:
                missing[pair] = key
        if not missing:
            return found
        async with self._laying:
            made = await asyncio.to_thread(self._lay, exams, missing, progress)
        async with self._sessions()() as session, session.begin():
            await store.keep_layings(session, state, made)
        return found | {pair: kept.laying for pair, kept in made.items()}

    def _lay(
        self,
        exams: Mapping[str, NodulesAssessed],
        missing: Mapping[tuple[str, str], str],
        progress: Progress,
    ) -> dict[tuple[str, str], KeptLaying]:
        made: dict[tuple[str, str], KeptLaying] = {}
        # Pairs of one current exam follow each other: it is read once.
        for current_id, pairs in itertools.groupby(missing, key=lambda pair: pair[1]):
            now = exams[current_id]
            current = self._read(now.exam)
            for pair in pairs:
                progress((len(made) + 0.1) / (len(missing) + 1), "comparing with an earlier exam")
                then = exams[pair[0]]
                earlier = self._read(then.exam) if current is not None else None
                if current is None or earlier is None:
                    # Known by their tracking UIDs alone; tried again when the patient comes again.
                    log.warning("exams are not compared: the voxels of one are gone")
                    continue
                laid = laying.lay(
                    earlier,
                    current,
                    _centers(then),
                    _centers(now),
                    self._settings.limits,
                    laying.unlike(then.exam, now.exam),
                    _diameters(then) | _diameters(now),
                )
                made[pair] = KeptLaying(missing[pair], laid)
        return made

    def _read(self, ready: VolumeReady) -> Exam | None:
        """Return an exam's voxels; None when the object store has let go of them."""
        volume = ready.volume
        try:
            hu, lobes = (read_array(self._blobs, ref) for ref in (volume.hu, volume.lobes))
        except BlobMissing:
            return None
        return Exam(hu, lobes, Grid.from_proto(volume.geometry))


def laying_key(then: NodulesAssessed, now: NodulesAssessed, limits: Limits) -> str:
    """Return the name of everything that a laying depends on: equal keys, equal layings."""
    parts = [
        registration.RULES,
        laying.RULES,
        asdict(limits),
        laying.unlike(then.exam, now.exam),
        *((e.exam.volume.hu.sha256, e.exam.volume.lobes.sha256) for e in (then, now)),
        *(sorted(_centers(exam).items()) for exam in (then, now)),
        *(sorted(_diameters(exam).items()) for exam in (then, now)),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _with(state: State, what: What) -> State:
    """Return the state with something new in it.

    Raises BadInput when its id already names something else.
    """
    if isinstance(what, Correction):
        corrected = _added(state.corrections, what, "correction_id")
        return replace(state, corrections=corrected)
    if isinstance(what, Outcome):
        return replace(state, outcomes=_added(state.outcomes, what, "outcome_id"))
    others = tuple(e for e in state.exams if e.study.study_id != what.study.study_id)
    before = next((e for e in state.exams if e.study.study_id == what.study.study_id), what)
    # A late older revision changes nothing; the same one made anew counts.
    newest = before if before.study.revision > what.study.revision else what
    return replace(state, exams=(*others, newest))


def _added(known: Sequence[What], what: What, field: str) -> tuple:  # type: ignore[type-arg]
    for one in known:
        if getattr(one, field) == getattr(what, field):
            if one != what:
                raise BadInput(f"this {field} already says something else", "id_taken")
            return tuple(known)
    return (*known, what)


def _centers(exam: NodulesAssessed) -> dict[str, Place]:
    return {
        n.nodule_id: (n.center_lps_mm[0], n.center_lps_mm[1], n.center_lps_mm[2])
        for n in exam.nodules
    }


def _diameters(exam: NodulesAssessed) -> dict[str, float]:
    return {n.nodule_id: n.measurement.mean_diameter_mm for n in exam.nodules}


def _nobody(fraction: float, detail: str) -> None:
    """Tell nobody."""
