"""CONTRIBUTING.md's example stage, compiled and run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

DRIVER = """
import numpy as np
import lungmesh.v1
lungmesh.v1.__path__.append("{generated}/lungmesh/v1")
{code}
from lungmesh.mesh.arrays import write_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.v1.study_pb2 import StudyRef, BlobRef, PRIORITY_ROUTINE
from lungmesh.v1.volume_pb2 import Acquisition, Geometry, SeriesChoice, SeriesVerdict, Volume

blobs = BlobStore("file://{generated}/blobs")
hu = np.full((4, 8, 8), -850, np.int16)
hu[0] = -990
lobes = np.ones((4, 8, 8), np.uint8)
some_id = "0f0e8a30-6a3f-4f5e-9f0a-0c9d4d1f0001"
event = VolumeReady(
    study=StudyRef(tenant="a", patient=some_id, study_id=some_id, revision=1,
                   priority=PRIORITY_ROUTINE),
    study_instance_uid="1.2.3",
    series_choice=SeriesChoice(chosen=SeriesVerdict(series_instance_uid="1.2", reason="only one")),
    volume=Volume(
        series_instance_uid="1.2",
        geometry=Geometry(size=[8, 8, 4], spacing_mm=[1, 1, 1], origin_lps_mm=[0, 0, 0],
                          direction=[1, 0, 0, 0, 1, 0, 0, 0, 1]),
        hu=write_array(blobs, "hu", hu),
        lobes=write_array(blobs, "lobes", lobes),
        headers=BlobRef(key="h", sha256="0" * 64),
        acquisition=Acquisition(),
    ),
    lung_volume_ml=1.0,
    models=[ModelVersion(name="m", version="1")],
)
print(measure(event, Context(event_id="e", blobs=blobs)))
"""


def blocks(language: str) -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_example_stage_compiles_and_measures(tmp_path: Path) -> None:
    source = tmp_path / "protos" / "lungmesh" / "v1" / "emphysema.proto"
    source.parent.mkdir(parents=True)
    source.write_text(blocks("proto")[0], encoding="utf-8")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{tmp_path / 'protos'}",
            f"-I{ROOT / 'protos'}",
            f"--python_out={tmp_path}",
            str(source),
        ],
        check=True,
    )
    code = DRIVER.format(
        generated=tmp_path, code="\n".join(blocks("python")).replace("from __future__ ", "# ")
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 25.0
