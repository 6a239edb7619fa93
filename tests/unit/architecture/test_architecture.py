"""The shape of the code, held by tests: who may import whom, and how long a file may be."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "services" / "lungmesh"
SERVICES = (
    "ingest",
    "preprocess",
    "detection",
    "malignancy",
    "followup",
    "report",
    "delivery",
    "mdt",
    "console",
)


def imported_modules(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def parts_imported(path: Path) -> set[str]:
    """Return the direct children of `lungmesh` that a file imports."""
    return {
        name.split(".")[1]
        for name in imported_modules(path)
        if name.startswith("lungmesh.") and len(name.split(".")) > 1
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_only_itself_the_chassis_and_the_protos(service: str) -> None:
    files = sorted((PACKAGE / service).rglob("*.py"))
    assert files, f"no code in {service}"
    for path in files:
        foreign = parts_imported(path) - {service, "mesh", "v1"}
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


def test_the_chassis_imports_no_service() -> None:
    for path in sorted((PACKAGE / "mesh").rglob("*.py")):
        foreign = parts_imported(path) - {"mesh", "v1"}
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


@pytest.mark.parametrize("service", SERVICES)
def test_domain_modules_know_neither_kafka_nor_grpc(service: str) -> None:
    adapters = {"service.py", "stage.py", "servicer.py", "restoring.py", "deliveries.py"}
    for path in sorted((PACKAGE / service).rglob("*.py")):
        if path.name in adapters:
            continue
        transport = {name.split(".")[0] for name in imported_modules(path)} & {"kafka", "grpc"}
        assert not transport, f"{path.relative_to(ROOT)} imports {sorted(transport)}"


def committed_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def test_no_file_of_code_is_above_400_lines() -> None:
    for path in committed_files():
        if path.suffix in {".py", ".proto", ".sh", ".md"}:
            lines = path.read_text(encoding="utf-8").count("\n")
            assert lines <= 400, f"{path.relative_to(ROOT)} has {lines} lines"


def test_no_registry_host_stands_in_a_committed_file() -> None:
    hosts = ["py" + "pi.org", "files.python" + "hosted.org", "registry.npm" + "js.org"]
    for path in committed_files():
        if path.suffix in {".gz", ".png", ".dcm", ".onnx", ".ttf", ".otf", ".pdf"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for host in hosts:
            assert host not in text, f"{path.relative_to(ROOT)} names {host}"


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_its_adapter_settings_and_readme(service: str) -> None:
    for name in ("service.py", "settings.py", "README.md"):
        assert (PACKAGE / service / name).is_file(), f"{service}/{name} is missing"
