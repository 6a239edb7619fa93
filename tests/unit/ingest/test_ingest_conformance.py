"""The conformance statement says what the code does."""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import UID

from lungmesh.ingest.refusals import REFUSALS
from lungmesh.ingest.settings import IngestSettings
from lungmesh.ingest.syntaxes import COMPANIONS, REFUSED, TRANSFER_SYNTAXES

ROOT = Path(__file__).resolve().parents[3]
STATEMENT = (ROOT / "docs" / "dicom-conformance.md").read_text(encoding="utf-8")
README = (ROOT / "services" / "lungmesh" / "ingest" / "README.md").read_text(encoding="utf-8")


def test_every_refusal_stands_in_the_statement_with_its_numbers() -> None:
    for code, refusal in REFUSALS.items():
        assert f"| {refusal.status:04X} | {refusal.http} | `{code}` |" in STATEMENT
    assert STATEMENT.count("` |") >= len(REFUSALS)


def test_every_sop_class_and_transfer_syntax_stands_in_the_statement() -> None:
    for sop_class in COMPANIONS | REFUSED:
        assert UID(sop_class).name.replace(" Storage", "") in STATEMENT
    for syntax in TRANSFER_SYNTAXES:
        assert f"| {syntax} |" in STATEMENT


def test_every_setting_stands_in_the_readme() -> None:
    for name in IngestSettings.model_fields:
        assert f"`{name.upper()}`" in README, name
