"""The models' cards: what `models list` and `models verify` say of them, and how one is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lungmesh.cli import models as commands
from lungmesh.cli.exits import CommandError
from lungmesh.cli.show import JsonLines
from lungmesh.embedded.models import (
    Model,
    ModelUnfit,
    checksum,
    models_folder,
    read_models,
    user_folder,
    write_card,
)
from lungmesh.embedded.repository import Target
from tests.support.triton import write_network

USE = {"nodule_types": ["solid"], "slice_thickness_mm": {"max": 2.5}}


def make(folder: Path, name: str = "net", version: str = "1", gain: float = 1.0) -> Model:
    """Write a small network with its card."""
    return write_card(
        write_network(folder / name / version / "model.onnx", gain),
        title="A test network",
        description="Means of eight voxels.",
        made_by="the tests",
        intended_use=USE,
        max_batch_size=4,
        parameters={"family": "heatmap", "tile": 16},
        shapes={"hu": (16, 24, 16)},
    )


def change(model: Model, **fields: Any) -> None:
    """Change fields of a card as it lies on the disk."""
    (model.folder / "card.json").write_text(json.dumps({**model.card, **fields}))


def verify(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `lungmesh models verify` over a folder of models."""
    monkeypatch.setattr(commands, "read_models", lambda *_: read_models(folder))
    commands.verify_models(JsonLines())


def test_verify_finds_each_model_as_its_card_says(capsys: pytest.CaptureFixture[str]) -> None:
    commands.verify_models(JsonLines())
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(item["name"], item["version"]) for item in told] == [
        (model.name, model.version) for model in read_models()
    ]


def test_list_gives_checksum_and_intended_use_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    commands.list_models(JsonLines())
    (told,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    for row in told["rows"]:
        assert len(row["sha256"]) == 64
        assert {
            "age_years",
            "nodule_types",
            "contrast",
            "slice_thickness_mm",
            "scanner",
        } <= row["intended_use"].keys()


def test_a_card_takes_its_tensors_from_the_graph_and_passes_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = make(tmp_path).card
    assert card["inputs"] == [{"name": "hu", "type": "INT16", "dims": [-1, -1, -1]}]
    assert card["outputs"] == [
        {"name": "heat", "type": "FP16", "dims": [-1, -1, -1]},
        {"name": "mean", "type": "FP32", "dims": [1]},
    ]
    # Without a larger one, the probe's shape is what Triton warms up with.
    assert card["warm_up"] == {"hu": [16, 24, 16]}
    assert [model.card for model in read_models(tmp_path)] == [card]
    verify(tmp_path, monkeypatch)


def test_a_card_of_open_axes_needs_a_shape_for_its_probe(tmp_path: Path) -> None:
    network = write_network(tmp_path / "net" / "1" / "model.onnx")
    with pytest.raises(ModelUnfit, match="leaves axes of hu open"):
        write_card(
            network,
            title="",
            description="",
            made_by="",
            intended_use={},
            max_batch_size=1,
            parameters={},
        )


def test_verify_refuses_a_file_that_is_not_the_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(tmp_path)
    content = bytearray(model.onnx.read_bytes())
    content[len(content) // 2] ^= 1
    model.onnx.write_bytes(content)
    with pytest.raises(CommandError, match="net version 1 does not have the checksum of its card"):
        verify(tmp_path, monkeypatch)


def test_verify_refuses_weights_that_answer_the_probe_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(tmp_path)
    write_network(model.onnx, gain=1.03)
    change(model, sha256=checksum(model.onnx))
    with pytest.raises(CommandError, match="answers its probe otherwise: mean of heat"):
        verify(tmp_path, monkeypatch)


def test_verify_takes_what_stays_within_the_tolerance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(tmp_path)
    write_network(model.onnx, gain=1.003)
    change(model, sha256=checksum(model.onnx))
    verify(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("side", "tensor"),
    [
        ("inputs", {"name": "hu", "type": "FP32", "dims": [-1, -1, -1]}),
        ("inputs", {"name": "image", "type": "INT16", "dims": [-1, -1, -1]}),
        ("inputs", {"name": "hu", "type": "INT16", "dims": [1, -1, -1, -1]}),
    ],
)
def test_verify_refuses_a_card_of_other_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str, tensor: dict[str, Any]
) -> None:
    change(make(tmp_path), **{side: [tensor]})
    with pytest.raises(CommandError, match=f"has the {side} .* not what its card says"):
        verify(tmp_path, monkeypatch)


def test_verify_refuses_an_answer_of_another_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(tmp_path)
    heat, mean = model.card["outputs"]
    # The graph leaves these axes open, so only a run can tell.
    change(model, outputs=[{**heat, "dims": [8, 8, 8]}, mean])
    with pytest.raises(CommandError, match=r"answers heat with the shape \(8, 12, 8\)"):
        verify(tmp_path, monkeypatch)


def test_verify_builds_again_what_a_script_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(tmp_path)
    script = model.folder / "build.py"
    script.write_text(
        "from pathlib import Path\n"
        "def build():\n"
        "    return (Path(__file__).parent / 'model.onnx').read_bytes() + b'x'\n"
    )
    with pytest.raises(CommandError, match=r"is not what its build\.py makes"):
        verify(tmp_path, monkeypatch)


def test_versions_stand_in_order_of_their_numbers(tmp_path: Path) -> None:
    for version in ("10", "9"):
        make(tmp_path, version=version)
    make(tmp_path, name="a")
    assert [(model.name, model.version) for model in read_models(tmp_path)] == [
        ("a", "1"),
        ("net", "9"),
        ("net", "10"),
    ]


def test_a_card_at_another_place_is_refused(tmp_path: Path) -> None:
    model = make(tmp_path)
    shutil.move(model.folder, tmp_path / "net" / "2")
    with pytest.raises(ModelUnfit, match="is the card of net version 1"):
        read_models(tmp_path)


def test_the_same_version_in_two_folders_is_refused(tmp_path: Path) -> None:
    for folder in ("shipped", "imported"):
        make(tmp_path / folder)
    with pytest.raises(ModelUnfit, match=r"net version 1 lies in .* and in"):
        read_models(tmp_path / "shipped", tmp_path / "imported")


def test_list_and_verify_take_the_imported_models_of_a_data_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(user_folder(tmp_path), name="zz_imported")
    commands.list_models(JsonLines(), tmp_path)
    commands.verify_models(JsonLines(), tmp_path)
    listed, *verified = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    names = [model.name for model in read_models()] + ["zz_imported"]
    assert [row["name"] for row in listed["rows"]] == names
    assert [item["name"] for item in verified] == names


def test_the_repository_is_written_for_a_triton_that_others_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(user_folder(tmp_path), name="zz_imported")
    commands.write_models(tmp_path / "out", Target.GPU, False, JsonLines(), tmp_path)
    assert json.loads(capsys.readouterr().out)["target"] == "gpu"
    config = (tmp_path / "out" / "zz_imported" / "config.pbtxt").read_text()
    assert 'backend: "onnxruntime"' in config
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="cannot be written"):
        commands.write_models(tmp_path / "file", Target.GPU, False, JsonLines(), tmp_path)
    shipped = read_models()[0]
    make(user_folder(tmp_path), name=shipped.name, version=shipped.version)
    with pytest.raises(CommandError, match="remove one of them"):
        commands.write_models(tmp_path / "out", Target.GPU, False, JsonLines(), tmp_path)


def test_imported_models_are_read_beside_the_shipped_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user_folder(tmp_path) == tmp_path / "imported-models"
    monkeypatch.setenv("LUNGMESH_MODELS", str(tmp_path))
    assert user_folder() == tmp_path
    shipped = read_models(models_folder())
    imported = make(tmp_path, name="zz_imported")
    assert [model.folder for model in read_models()] == [
        *(model.folder for model in shipped),
        imported.folder,
    ]
