"""Simulated patients: their truth is exact, and whoever matches wrongly is told."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bench.twinning.judging import decisions, place_errors
from bench.twinning.records import ExamRecord, Nodule, PairRecord, PatientRecord
from lungmesh.followup.laying import Laying
from lungmesh.v1 import followup_pb2, nodule_pb2
from models.training.simulation.hosts import Host
from models.training.simulation.shapes import Shape
from models.training.simulation.twin_motion import breathing
from models.training.simulation.twins import TwinExam, moved, twin

SPACING = (2.0, 2.0, 2.0)
SOLID = int(nodule_pb2.NODULE_TYPE_SOLID)


def host() -> Host:
    """One round lung of 70 mm radius in soft tissue."""
    shape = (80, 80, 80)
    lines = np.meshgrid(*(np.arange(n) * 2.0 - 79 for n in shape), indexing="ij", sparse=True)
    lungs = sum(line**2 for line in lines) < 70**2
    noise = np.random.default_rng(0).normal(0, 12, shape)
    hu = (np.where(lungs, -860, 40) + noise).astype(np.int16)
    return Host("ball", hu, lungs, np.zeros(shape, bool), SPACING, 2.0, 12.0)


def ball(diameter: float) -> Shape:
    """A ball as a nodule's shape."""
    n = int(diameter / 0.5) + 12
    lines = np.meshgrid(*(np.arange(n) * 0.5 - (n - 1) / 4,) * 3, indexing="ij", sparse=True)
    distance = (np.sqrt(sum(line**2 for line in lines)) - diameter / 2).astype(np.float16)
    ratings = {"spiculation": 1.0, "sphericity": 5.0}
    return Shape(f"ball/{diameter}", "ball", "test", distance, diameter, ratings)


@pytest.fixture(scope="module")
def exams() -> list[TwinExam]:
    return twin(host(), [ball(d) for d in range(3, 30)], seed=8, exams=3)


def test_the_way_back_of_a_motion_is_exact() -> None:
    motion = breathing(host(), 25.0, np.random.default_rng(3))
    places = np.random.default_rng(1).uniform(0, 158, (200, 3))
    there = motion.from_host(places)
    assert np.abs(motion.to_host(there) - places).max() < 1e-4
    # 25 mm of breath at the base show, whatever else moves.
    assert np.linalg.norm(there - places, axis=1).max() > 15


def test_a_nodule_lies_where_the_truth_says_in_every_exam(exams: list[TwinExam]) -> None:
    compared = 0
    for then, now in pairwise(exams):
        for name in then.nodules.keys() & now.nodules.keys():
            place = moved(then.center(name), then, now)
            assert np.linalg.norm(place - now.center(name)) < 1.0, name
            compared += 1
    assert compared >= 4


def test_the_voxels_show_the_nodules(exams: list[TwinExam]) -> None:
    for exam in exams:
        assert exam.nodules
        for planted in exam.nodules.values():
            core = exam.hu[planted.box][planted.total > 0.95]
            assert core.size == 0 or np.median(core) > -750
            sum_mm3 = planted.total.sum() * exam.grid.voxel_volume_mm3
            assert sum_mm3 == pytest.approx(planted.volume_mm3, rel=0.02)


def test_the_same_seed_gives_the_same_patient(exams: list[TwinExam]) -> None:
    again = twin(host(), [ball(d) for d in range(3, 30)], seed=8, exams=3)
    for one, other in zip(exams, again, strict=True):
        assert np.array_equal(one.hu, other.hu)
        assert one.nodules.keys() == other.nodules.keys()


def nodule(exam: int, name: str, x: float, mm: float = 8.0) -> Nodule:
    """A ball on the x axis."""
    return Nodule(f"{exam}-{name}", name, (x, 0.0, 0.0), mm, np.pi / 6 * mm**3, SOLID, 1)


def a_patient() -> PatientRecord:
    """Four nodules: one stays, one goes, one comes, two merge."""
    then = nodule(0, "a", 0), nodule(0, "b", 40), nodule(0, "d", 80, 6), nodule(0, "e", 87, 6)
    now = nodule(1, "a", 0), nodule(1, "c", -40), nodule(1, "d+e", 83.5, 11)
    every = (*then, *now)
    laying = Laying(
        method=followup_pb2.REGISTRATION_METHOD_DEFORMABLE,
        dice=0.98,
        inverse_error_mm=0.5,
        earlier_places={one.nodule_id: one.center for one in then},
        earlier_visible={one.nodule_id: True for one in then},
        current_visible={one.nodule_id: True for one in now},
    )
    pair = PairRecord(
        earlier=0,
        current=1,
        laying=laying.to_json(),
        seconds=1.0,
        processor_seconds=1.0,
        peak_mib=1.0,
        million_voxels=1.0,
        places={one.nodule_id: one.center for one in every},
        outside_mm={one.nodule_id: -50.0 for one in every},
    )
    exams = (
        ExamRecord("then", 0, 0.0, "standard", (), then, None),
        ExamRecord("now", 365, 20.0, "standard", (), now, then[:1]),
    )
    return PatientRecord("made up", exams, (pair,))


def test_a_right_matching_is_told_right() -> None:
    judged = decisions(a_patient(), found=False)
    assert all(one.right for one in judged)
    assert sorted(one.said for one in judged) == ["MERGED", "NEW", "RESOLVED", "SAME"]
    assert max(error.error_mm for error in place_errors(a_patient())) == 0


def test_a_place_laid_wrongly_gives_a_false_new() -> None:
    patient = a_patient()
    laying = Laying.from_json(patient.pairs[0].laying)
    places = {**laying.earlier_places, "0-a": (0.0, 60.0, 0.0)}
    pair = replace(patient.pairs[0], laying=replace(laying, earlier_places=places).to_json())
    patient = replace(patient, pairs=(pair,))
    wrong = [one for one in decisions(patient, found=False) if not one.right]
    assert [(one.nodule, one.said) for one in wrong] == [("1-a", "NEW")]
    assert wrong[0].false_new
    assert max(error.error_mm for error in place_errors(patient)) == pytest.approx(60)


def test_a_record_is_the_same_after_json(tmp_path: Path) -> None:
    patient = a_patient()
    patient.write(tmp_path / "one.json")
    assert PatientRecord.read(tmp_path / "one.json") == patient
