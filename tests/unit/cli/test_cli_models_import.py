"""A foreign detector becomes a model of ours, or is refused with one clear sentence."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from lungmesh.cli import models_import
from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.show import JsonLines
from lungmesh.embedded import probe
from lungmesh.embedded.models import Model, read_models, user_folder
from lungmesh.mesh.errors import MeshError
from tests.support.foreign import (
    INFERENCE,
    METADATA,
    RAS_SPACING,
    RAS_TILE,
    SHAPES,
    manifest_of,
    write_bundle,
    write_heatmap,
    write_manifest,
    write_network,
)
from tests.support.mesh import lungmesh


@pytest.fixture(autouse=True)
def _no_folder_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUNGMESH_MODELS", raising=False)


def bring(file: Path, data: Path, manifest: Path | None = None, sha256: str | None = None) -> Model:
    """Import a file and return what came of it."""
    models_import.import_model(file, manifest, sha256, data, JsonLines())
    (model,) = read_models(user_folder(data))
    return model


def bring_with(tmp_path: Path, network: Path, **changes: Any) -> Model:
    """Import a network with a manifest of which some fields are changed."""
    manifest = write_manifest(tmp_path / "manifest.yaml", manifest_of(network, **changes))
    return bring(network, tmp_path / "data", manifest)


def refusal(call: Callable[[], object]) -> str:
    """Return the one sentence that a refusal says."""
    with pytest.raises(MeshError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert not text.endswith(".")
    return text


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("network") / "model.onnx")


def test_a_bundle_becomes_a_model_that_sees_the_ball(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bring(write_bundle(tmp_path / "bundle"), tmp_path / "data")
    assert (model.name, model.version) == ("tiny_nodule_ct_detection", "608")
    parameters = model.card["parameters"]
    assert parameters["family"] == "retinanet"
    assert parameters["grid_mm"] == [1.25, 0.703125, 0.703125]
    assert parameters["strides"][0] == [2, 4, 4]
    # x and y run against ours: the last of four voxels comes first.
    assert parameters["firsts"][0] == [0, 3, 3]
    # Edges 6, 8, 4 and 8, 6, 5 along x, y, z; half of 5 is rounded to 2.
    assert parameters["anchors"][0][:2] == [[4, 8, 6], [4, 6, 8]]
    assert (parameters["least_score"], parameters["overlap"]) == (0.02, 0.22)
    assert model.card["intended_use"]["slice_thickness_mm"] == {"max": 2.5}
    seen = model.card["imported"]["phantom"]
    assert seen["score"] > 0.95 > 0.05 > seen["without_ball"]
    assert seen["off_mm"] < 0.5
    assert seen["diameter_mm"] == pytest.approx(10, rel=0.1)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[-1]["sha256"] == hashlib.sha256(model.onnx.read_bytes()).hexdigest()
    # As `lungmesh models verify` looks at it.
    card = model.card
    answers = probe.run(model.onnx, card["inputs"], card["outputs"], probe.from_card(card))
    assert probe.difference(card, answers) == ""
    assert all(probe.has_shape(answers[item["name"]], item["dims"]) for item in card["outputs"])


@pytest.mark.parametrize("axes", ["SPL", "LIA"])
def test_axes_of_the_network_become_ours(tmp_path: Path, axes: str) -> None:
    z, xy = RAS_SPACING[2], RAS_SPACING[0]
    spacing = tuple(z if letter in "SI" else xy for letter in axes)
    tile = tuple(RAS_TILE[2] if letter in "SI" else RAS_TILE[0] for letter in axes)
    network = write_network(tmp_path / "model.onnx", (tile[0], tile[1], tile[2]), spacing)
    model = bring_with(tmp_path, network, axes=axes, spacing_mm=list(spacing), tile=list(tile))
    assert model.card["parameters"]["fixed"] is True
    assert model.card["inputs"][0]["dims"] == [RAS_TILE[2], RAS_TILE[0], RAS_TILE[0]]
    assert model.card["imported"]["phantom"]["off_mm"] < 0.5


def test_where_anchors_stand_moves_the_boxes(tmp_path: Path, network: Path) -> None:
    outputs = manifest_of(network)["outputs"] | {"anchors_at": "middle"}
    model = bring_with(tmp_path, network, outputs=outputs)
    # The network counts from corners: 2, 2 and 1 voxels are wrong by then.
    expected = (2 * (2 * RAS_SPACING[0]) ** 2 + RAS_SPACING[2] ** 2) ** 0.5
    assert model.card["imported"]["phantom"]["off_mm"] == pytest.approx(expected, abs=0.3)


def test_a_heatmap_becomes_the_family_of_our_own_detector(tmp_path: Path) -> None:
    network = write_heatmap(tmp_path / "heat.onnx")
    model = bring_with(
        tmp_path,
        network,
        axes="LPS",
        spacing_mm=[1, 1, 1],
        tile=[96, 96, 96],
        window={"low": -1000, "high": 1000, "to": [-1, 1], "clip": False},
        outputs={
            "family": "heatmap",
            "heat": "y",
            "heat_is": "logit",
            "size": "mm",
            "size_is": "mm",
        },
    )
    assert [item["name"] for item in model.card["outputs"]] == ["heat", "size", "offset"]
    assert model.card["parameters"]["stride"] == 2
    seen = model.card["imported"]["phantom"]
    assert seen["diameter_mm"] == pytest.approx(10, rel=0.01)
    # No offset: half a voxel of stride 2 along each axis at most.
    assert seen["off_mm"] <= 3**0.5


def change(network: Path, path: Path, edit: Callable[[onnx.ModelProto], object]) -> Path:
    """Write a changed copy of a network."""
    model = onnx.load(network)
    edit(model)
    path.write_bytes(model.SerializeToString())
    return path


def silent(model: onnx.ModelProto) -> None:
    """Make every score 0 % by a bias."""
    for item in model.graph.initializer:
        if item.name.startswith("bias_"):
            item.CopyFrom(onnx.numpy_helper.from_array(-99 + 0 * _array(item), item.name))


def shouting(model: onnx.ModelProto) -> None:
    """Make every score the same and high."""
    for item in model.graph.initializer:
        if item.name == "slope" or item.name.startswith("bias_"):
            value = 0.0 if item.name == "slope" else 4.0
            item.CopyFrom(onnx.numpy_helper.from_array(value + 0 * _array(item), item.name))


def _array(item: onnx.TensorProto) -> Any:
    return onnx.numpy_helper.to_array(item)


def test_a_network_that_sees_no_ball_is_refused(tmp_path: Path, network: Path) -> None:
    blind = change(network, tmp_path / "blind.onnx", silent)
    assert "does not see a ball of 10 mm" in refusal(lambda: bring_with(tmp_path, blind))
    assert not list(user_folder(tmp_path / "data").glob("*/*"))


def test_a_network_that_sees_balls_everywhere_is_refused(tmp_path: Path, network: Path) -> None:
    loud = change(network, tmp_path / "loud.onnx", shouting)
    said = refusal(lambda: bring_with(tmp_path, loud))
    assert "other places of that lung: it does not tell them apart" in said


def test_a_network_whose_sizes_are_far_off_is_refused(tmp_path: Path, network: Path) -> None:
    outputs = manifest_of(network)["outputs"]
    for level in outputs["levels"]:
        level["anchors"] = [[3 * edge for edge in anchor] for anchor in level["anchors"]]
    assert "compare spacing, anchors" in refusal(
        lambda: bring_with(tmp_path, network, outputs=outputs)
    )


def first_level(network: Path, **changes: Any) -> dict[str, Any]:
    outputs = manifest_of(network)["outputs"]
    outputs["levels"][0] |= changes
    return {"outputs": outputs}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": None}, "has no sha256"),
        ({"sha256": "0" * 64}, "does not have the SHA-256 000000000000…"),
        ({"axes": "RAL"}, "must name one of R and L"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"name": "My Net"}, "name: String should match"),
        ({"name": "nodule_detector"}, "is a model that lungmesh brings"),
        ({"window": {"low": 300, "high": -1024}}, "window: low must be below high"),
        ({"spacing_mm": [1, 1]}, "spacing_mm.2: Field required"),
        ({"multiple": 32}, "must be multiples of 32"),
        ({"tile": [84, 80, 64]}, "a whole multiple"),
        ({"halo": 32}, "leaves no core of 16 voxels"),
        ({"halo": 20}, "must be multiples of 16"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    tmp_path: Path, network: Path, changes: dict[str, Any], said: str
) -> None:
    assert said in refusal(lambda: bring_with(tmp_path, network, **changes))


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ({"scores": "logits"}, "has no output logits: it has output_0, output_1"),
        ({"anchors": [list(SHAPES[0])]}, "has 3 channels, but by the manifest it must have 1"),
        ({"boxes": "output_4"}, "belong together"),
    ],
)
def test_outputs_that_are_not_as_told_are_refused(
    tmp_path: Path, network: Path, level: dict[str, Any], said: str
) -> None:
    assert said in refusal(lambda: bring_with(tmp_path, network, **first_level(network, **level)))


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 11


def half_a_graph(model: onnx.ModelProto) -> None:
    del model.graph.node[3]


def two_images(model: onnx.ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("age", onnx.TensorProto.FLOAT, [1]))


def eight_images(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8


def small_image(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 32


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (old_opset, "is of ONNX opset 11"),
        (half_a_graph, "the ONNX checker refuses"),
        (two_images, "has 2 inputs (image, age)"),
        (eight_images, "takes 8 images at once"),
        (small_image, "but the tile of the manifest is"),
    ],
)
def test_networks_that_cannot_be_served_are_refused(
    tmp_path: Path, network: Path, edit: Callable[[onnx.ModelProto], object], said: str
) -> None:
    broken = change(network, tmp_path / "broken.onnx", edit)
    assert said in refusal(lambda: bring_with(tmp_path, broken))


def test_files_that_are_none_are_refused(tmp_path: Path, network: Path) -> None:
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"\x00\x01\x02 no network")
    assert "is not an ONNX file" in refusal(lambda: bring_with(tmp_path, noise))
    assert "there is no" in refusal(lambda: bring(tmp_path / "gone.onnx", tmp_path))
    assert "needs --manifest" in refusal(lambda: bring(network, tmp_path))
    text = tmp_path / "broken.yaml"
    text.write_text("name: [")
    assert "broken.yaml is not YAML" in refusal(lambda: bring(network, tmp_path, text))


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is not None, reason="PyTorch is installed here"
)
def test_torchscript_without_pytorch_says_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "model.ts"
    script.write_bytes(b"PK")
    with pytest.raises(CommandError, match="run `pip install torch`") as caught:
        bring_with(tmp_path, script)
    assert caught.value.exit_status == Exit.USAGE


def test_a_version_is_never_written_over(tmp_path: Path, network: Path) -> None:
    (user_folder(tmp_path / "data") / "ball_finder" / "1").mkdir(parents=True)
    assert "is there already" in refusal(lambda: bring_with(tmp_path, network))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("configs/metadata.json", {**METADATA, "version": "new"}, "is not like 0.6.8"),
        ("configs/metadata.json", {**METADATA, "monai_version": ""}, "is not like 1.4.0"),
        ("configs/inference.json", {**INFERENCE, "num_classes": 2}, "tells several classes apart"),
        ("configs/inference.json", {**INFERENCE, "num_classes": "$1 + 1"}, "is an expression"),
        ("configs/inference.json", {**INFERENCE, "anchor_generator": {}}, "has no anchor_gen"),
        ("configs/inference.json", {**INFERENCE, "preprocessing": {}}, "has no preprocessing"),
    ],
)
def test_a_bundle_that_cannot_be_read_is_refused(
    tmp_path: Path, file: str, content: dict[str, Any], said: str
) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / file).write_text(json.dumps(content))
    assert said in refusal(lambda: bring(bundle, tmp_path / "data"))


def test_a_bundle_of_weights_alone_says_how_to_export_it(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "models" / "model.onnx").rename(bundle / "models" / "model.pt")
    assert "docs/models-import.md" in refusal(lambda: bring(bundle, tmp_path / "data"))


def test_a_bundles_own_checksum_is_looked_at(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "large_files.yml").write_text(
        "large_files:\n- path: models/model.onnx\n  hash_type: md5\n  hash_val: " + "0" * 32 + "\n"
    )
    assert "does not have the md5" in refusal(lambda: bring(bundle, tmp_path / "data"))
    assert "does not have the SHA-256" in refusal(
        lambda: bring(bundle, tmp_path / "data", sha256="1" * 64)
    )


def test_the_command_ends_with_a_sentence_and_a_status(tmp_path: Path) -> None:
    ended = lungmesh("models", "import", tmp_path / "no.onnx", limit_seconds=60)
    assert ended.returncode == Exit.USAGE
    assert ended.stderr == f"lungmesh: there is no {tmp_path / 'no.onnx'}\n"
