"""A candidate against the version in service, and results that come back from their file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.accept import main
from bench.referee.acceptance import judge
from bench.referee.measures import Errors
from bench.referee.results import Results, Run, ScanResult
from bench.referee.scoring import Outcome, ScanScore
from bench.referee.tables import MOST_LOSS, loss, verdict, warnings_beyond

SCANS = 12
KINDS = ("solid", "solid", "solid", "ground_glass")


def scan(
    number: int,
    missed: Sequence[int] = (),
    seconds: float = 20.0,
    warnings: tuple[str, ...] = (),
) -> ScanResult:
    """Return a scan of four nodules, some of them missed, and one false positive below them all."""
    outcomes = tuple(
        Outcome(kind, 9.0, None if i in missed else 0.9, None if i in missed else i)
        for i, kind in enumerate(KINDS)
    )
    return ScanResult(
        name=f"scan {number}",
        score=ScanScore(outcomes, (0.2,), ignored=1, doubles=2),
        errors=(Errors("solid", 9.0, 0.9, 0.05, -0.02, None, None, True),),
        seconds=seconds,
        at_threshold=(4 - len(missed), 0),
        models=("nodule_detector 1",),
        warnings=warnings,
    )


def run(
    missed: Sequence[int] = (),
    among: int = SCANS,
    seconds: float = 20.0,
    condition: str = "as scanned",
    warnings: tuple[str, ...] = (),
) -> Run:
    """Return a run whose first `among` scans miss the same nodules."""
    scans = tuple(scan(i, missed if i < among else (), seconds, warnings) for i in range(SCANS))
    return Run(True, condition, scans, 900.0)


def test_a_version_that_finds_the_same_is_accepted() -> None:
    assert judge(run(), run()).accepted


def test_a_better_version_is_accepted_with_its_gain_and_interval() -> None:
    better = judge(run(missed=[0]), run())
    assert better.accepted
    assert better.change.value == pytest.approx(0.25)
    assert better.change.low == pytest.approx(0.25)


def test_a_loss_in_every_scan_is_refused_with_the_change() -> None:
    refused = judge(run(), run(missed=[0]))
    assert refused.reasons[0].startswith("CPM falls by 0.250")
    assert refused.change.high == pytest.approx(-0.25)


def test_a_loss_by_chance_in_one_scan_of_twelve_is_not_refused_for_cpm() -> None:
    # 1 of 48: the interval of the change reaches 0, and 0.02 is less than any limit.
    assert judge(run(), run(missed=[0], among=1)).accepted


def test_a_kind_that_loses_more_than_the_limit_refuses_though_the_whole_hardly_changes() -> None:
    # Ground glass: 1 of 12 missed is 0.083; of all 48 it is 0.021.
    refused = judge(run(), run(missed=[3], among=1))
    assert list(refused.reasons) == ["CPM of ground_glass falls by 0.083, more than 0.05"]


def test_a_slow_version_is_refused_only_above_the_limit_and_when_slower_than_before() -> None:
    assert judge(run(), run(seconds=24.0)).accepted
    assert judge(run(seconds=40.0), run(seconds=42.0)).accepted
    assert judge(run(), run(seconds=30.0)).reasons[0].startswith("a scan takes 30.0 s")


def test_other_scans_or_another_condition_cannot_be_compared() -> None:
    fewer = Run(True, "as scanned", run().scans[:5])
    with pytest.raises(ValueError, match="same scans"):
        judge(run(), fewer)
    with pytest.raises(ValueError, match="conditions differ"):
        judge(run(), run(condition="quarter dose"))


def test_results_come_back_from_their_file_whole(tmp_path: Path) -> None:
    before = Results((run(missed=[1, 3], among=4), run(condition="quarter dose")))
    before.write(tmp_path / "out" / "results.json")
    after = Results.read(tmp_path / "out" / "results.json")
    assert after == before
    assert after.runs[0].groups() == before.runs[0].groups()


def test_another_file_is_not_taken_for_results(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"runs": []}')
    with pytest.raises(ValueError, match="not written by the referee"):
        Results.read(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("missed", "status", "says"), [([], 0, "accepted"), ([0], 1, "refused: CPM falls by 0.250")]
)
def test_the_command_says_so_and_its_exit_status_too(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    missed: list[int],
    status: int,
    says: str,
) -> None:
    old, new = str(tmp_path / "old.json"), str(tmp_path / "new.json")
    Results((run(),)).write(Path(old))
    Results((run(missed=missed),)).write(Path(new))
    assert main([old, new]) == status
    printed = capsys.readouterr().out
    assert says in printed
    assert "SIMULATED" in printed


def test_files_that_cannot_be_compared_have_their_own_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Results((run(),)).write(tmp_path / "old.json")
    assert main([str(tmp_path / "old.json"), str(tmp_path / "none.json")]) == 2
    assert "cannot compare" in capsys.readouterr().out


def test_a_condition_that_loses_too_much_is_flagged_unless_the_report_warns() -> None:
    first = run()
    lost = run(missed=[0], condition="5 mm")
    warned = run(missed=[0], condition="5 mm", warnings=("slice_thickness",))
    assert loss(lost, first) == pytest.approx(0.25)
    assert verdict(lost, first) == f"LOST > {MOST_LOSS:.2f}"
    assert (warnings_beyond(warned, first), verdict(warned, first)) == (
        ["slice_thickness"],
        "warned",
    )
    assert verdict(run(missed=[0], among=4, condition="flipped"), first) == "ok"


def test_a_warning_that_the_scans_have_anyway_warns_of_no_condition() -> None:
    first = run(warnings=("slice_thickness",))
    lost = run(missed=[0], condition="noise", warnings=("slice_thickness",))
    assert warnings_beyond(lost, first) == []


def test_a_condition_that_only_some_scans_can_have_is_compared_on_those() -> None:
    # The first six scans miss a nodule as they are; only the other six have the condition.
    first = run(missed=[0], among=6)
    others = Run(True, "3 mm slices", run(missed=[0]).scans[6:])
    assert loss(others, first) == pytest.approx(0.25)
