"""The image's steps without a container engine: the wheel, and the program as the pod runs it."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "deploy" / "images"
NOBODY = 10001
# Whose interpreter everybody may run; an environment manager's may lie under /root.
PYTHONS = (sys.executable, "/usr/bin/python3.11", "/usr/local/bin/python3.11")


def _python() -> str:
    for candidate in PYTHONS:
        real = Path(candidate).resolve()
        if real.exists() and not real.is_relative_to("/root"):
            command = [candidate, "-c", "import ensurepip, venv"]
            if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return candidate
    pytest.skip("no Python 3.11 with venv that another user may run (Debian: python3-venv)")


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """Return /opt/lungmesh as the Dockerfile's RUN line makes it, out of what git holds."""
    folder = Path(tempfile.mkdtemp(prefix="lungmesh-image-"))
    folder.chmod(0o755)
    sources, made = folder / "src", folder / "opt"
    sources.mkdir()
    files = subprocess.run(
        ["git", "ls-files", "-z", "--", *_copied()], cwd=ROOT, capture_output=True, check=True
    )
    for name in files.stdout.decode().split("\0")[:-1]:
        if (ROOT / name).exists():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, sources / name)
    environment = {**os.environ, "PIP_OPTIONS": "--no-deps", "PYTHON": _python()}
    environment.pop("PYTHONPATH", None)
    subprocess.run(
        ["sh", str(IMAGES / "install.sh"), str(sources), str(made)], env=environment, check=True
    )
    # In the image they are installed by the same line; here they are borrowed.
    (packages,) = made.glob("lib/python3*/site-packages")
    borrowed = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    subprocess.run(["chmod", "-R", "a-w,a+rX", str(made)], check=True)
    yield made
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
    shutil.rmtree(folder)


def _copied() -> list[str]:
    lines = (IMAGES / "Dockerfile.dockerignore").read_text().splitlines()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def runs(image: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the image as its user, with a home that is the only folder to write to."""
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o777)  # noqa: S103
        return subprocess.run(
            [str(image / "bin" / command[0]), *command[1:]],
            cwd=home,
            env={"HOME": home, "PATH": f"{image / 'bin'}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            user=NOBODY if os.getuid() == 0 else None,
            group=NOBODY if os.getuid() == 0 else None,
            extra_groups=[] if os.getuid() == 0 else None,
        )


def test_the_program_runs_as_nobody_over_read_only_packages(image: Path) -> None:
    said = runs(image, "lungmesh", "--version")
    assert (said.returncode, said.stdout) == (0, "lungmesh 0.1.0\n"), said.stderr
    assert "Run one service" in runs(image, "lungmesh", "serve", "--help").stdout


def test_a_service_starts_as_far_as_its_settings(image: Path) -> None:
    """One line names what is missing: everything that it imports is there."""
    for command in (("lungmesh", "serve"), ("python", "-m", "lungmesh.mesh.prepare")):
        said = runs(image, *command, "ingest")
        assert said.returncode == 2, said.stderr
        assert said.stderr.strip() == "LUNGMESH_BLOBS_URL: Field required"


def test_the_models_come_out_of_the_image_for_triton(image: Path) -> None:
    """What the chart's init container runs; each file's checksum is looked at on the way."""
    said = runs(image, "lungmesh", "models", "write", "models", "--target", "gpu")
    assert said.returncode == 0, said.stderr
    assert "nodule_detector 2" in said.stdout + said.stderr


def test_the_image_holds_what_services_read_and_no_build_tools(image: Path) -> None:
    (packages,) = image.glob("lib/python3*/site-packages/lungmesh")
    for name in (
        "v1/study_pb2.py",
        "ingest/migrations/0001_intake.py",
        "followup/guidelines/tables/lung_rads_v2022.yaml",
        "console/web/dist/index.html",
        "report/fonts",
    ):
        assert (packages / name).exists(), name
    assert not list(packages.glob("console/web/src"))
    assert not list(image.glob("bin/pip*"))
    assert not list(image.glob("lib/python3*/site-packages/pip"))


def test_the_dockerfiles_hold_nothing_but_these_steps() -> None:
    """Short enough to be read as true: the one RUN that builds is the script that ran above."""
    lines = (IMAGES / "Dockerfile").read_text().splitlines()
    steps = [line for line in lines if line and not line.startswith(("#", "ARG", "FROM"))]
    assert steps[:2] == ["COPY . /src", "RUN /src/deploy/images/install.sh /src /opt/lungmesh"]
    assert len([line for line in steps if line.startswith("RUN")]) == 2
    for file in ("Dockerfile", "triton.Dockerfile"):
        text = (IMAGES / file).read_text()
        assert "USER 10001:10001" in text
        # Every base has a version; nothing floats.
        for base in re.findall(r"^ARG BASE=(.+)$", text, re.MULTILINE):
            assert re.search(r":\d", base), base
            assert "latest" not in base
