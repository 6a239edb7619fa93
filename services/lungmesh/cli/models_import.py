"""`lungmesh models import`: a foreign detector is checked, rewritten for our wire, and kept."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.importing import torchscript
from lungmesh.cli.importing.bundle import ends_of, read_bundle
from lungmesh.cli.importing.manifest import HeatmapOutputs, Manifest, read_manifest
from lungmesh.cli.importing.network import (
    Maps,
    Network,
    first_line,
    read_maps,
    read_network,
    session_of,
)
from lungmesh.cli.importing.phantom import LEAST_SCORE, Seen, look
from lungmesh.cli.importing.wrap import Axes, wrapped
from lungmesh.cli.show import Show
from lungmesh.detection.family import family_of
from lungmesh.embedded.models import (
    Model,
    ModelUnfit,
    checksum,
    models_folder,
    read_models,
    user_folder,
    write_card,
)
from lungmesh.embedded.probe import ProbeFailed
from lungmesh.embedded.repository import Target, config_pbtxt
from lungmesh.mesh.errors import BadInput


@dataclass(frozen=True)
class Source:
    """What is imported.

    Attributes
    ----------
    network
        The ONNX file; of TorchScript, what it was converted to.
    given
        The file that was given, or that the bundle holds.
    checked
        How its checksum was found to be right, in words.
    """

    network: Path
    given: Path
    manifest: Manifest
    checked: str


def import_model(
    file: Path, manifest: Path | None, sha256: str | None, data: Path, show: Show
) -> None:
    """Check a detector and keep it as a model of the user's folder, for Triton to serve.

    Parameters
    ----------
    file
        ONNX or TorchScript with a manifest, or the folder of a MONAI bundle.
    sha256
        The checksum that the file must have; None takes the manifest's or the bundle's.
    data
        Data directory of the mesh; `LUNGMESH_MODELS` goes before it.

    Raises BadInput or CommandError: one sentence that says what is wrong.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if file.is_dir():
            if manifest is not None:
                raise BadInput("a bundle brings its own description: leave --manifest out")
            source = _of_bundle(file, sha256, Path(scratch))
        elif file.is_file():
            source = _of_file(file, manifest, sha256, Path(scratch))
        else:
            raise BadInput(f"there is no {file}")
        told = source.manifest
        folder = user_folder(data)
        _require_new(told, folder)
        called = source.given.name
        network = read_network(source.network, told)
        show.note(f"{called}: {source.checked}; the ONNX checker agrees; running it")
        maps = read_maps(network, told, called)
        parameters = _parameters(network, told, maps, called)
        content = wrapped(network, told, maps)
        seen = _try(content, parameters, told, called)
        model = _keep(content, parameters, source, seen, folder)
    show.note(
        f"the ball of {seen.ball_mm:g} mm is seen with a score of {seen.score:.3f}, "
        f"{seen.off_mm:.1f} mm off, as {seen.diameter_mm:.1f} mm; the same place without it "
        f"{seen.without_ball:.3f}, the lung elsewhere {seen.elsewhere:.3f} (simulated)",
        **asdict(seen),
    )
    show.note(
        f"{model.name} version {model.version} lies in {model.folder}; the next `lungmesh up` or "
        f"`run` serves it, and LUNGMESH_DETECTION__NETWORK={model.name} "
        f"LUNGMESH_DETECTION__NETWORK_VERSION={model.version} uses it",
        name=model.name,
        version=model.version,
        folder=str(model.folder),
        sha256=model.card["sha256"],
    )


def _of_file(file: Path, manifest: Path | None, sha256: str | None, scratch: Path) -> Source:
    """Read a network and the manifest beside it, and compare checksums."""
    if manifest is None:
        raise BadInput(f"{file.name} needs --manifest: what it wants to see and what it answers")
    told = read_manifest(manifest)
    wanted = sha256 or told.sha256
    if wanted is None:
        raise BadInput(
            f"{manifest.name} has no sha256: put in that of the network's publisher ({file.name} "
            f"has {checksum(file)})"
        )
    _require_checksum(file, wanted)
    network = _as_onnx(file, told.tile, scratch)
    return Source(network, file, told, "its checksum is that of the manifest")


def _of_bundle(folder: Path, sha256: str | None, scratch: Path) -> Source:
    """Read a MONAI bundle, and compare the network with the checksum that there is."""
    bundle = read_bundle(folder)
    if sha256 is None:
        checked = bundle.check()
    else:
        _require_checksum(bundle.network, sha256)
        checked = "its checksum is that of --sha256"
    network = _as_onnx(bundle.network, bundle.tile, scratch)
    outputs, fixed = ends_of(network)
    return Source(network, bundle.network, bundle.manifest(outputs, fixed or bundle.tile), checked)


def _require_checksum(file: Path, wanted: str) -> None:
    if checksum(file) != wanted.lower():
        raise BadInput(
            f"{file.name} does not have the SHA-256 {wanted.lower()[:12]}… that it must have: "
            "fetch it again"
        )


def _as_onnx(file: Path, tile: tuple[int, int, int], scratch: Path) -> Path:
    if file.suffix not in torchscript.SUFFIXES:
        return file
    torchscript.to_onnx(file, tile, scratch / "converted.onnx")
    return scratch / "converted.onnx"


def _require_new(told: Manifest, folder: Path) -> None:
    if any(model.name == told.name for model in read_models(models_folder())):
        raise BadInput(f"{told.name} is a model that lungmesh brings: choose another name")
    if (folder / told.name / str(told.version)).exists():
        raise BadInput(
            f"{told.name} version {told.version} is there already, in {folder}: give this one "
            "another version, or remove that folder"
        )


def _parameters(network: Network, told: Manifest, maps: Maps, called: str) -> dict[str, Any]:
    """Return what the detection service must know, along our axes.

    Raises BadInput when the network's strides do not fit the manifest's tile and halo.
    """
    axes, outputs = Axes.of(told.axes), told.outputs
    names = [outputs.heat] if isinstance(outputs, HeatmapOutputs) else _score_names(told)
    strides = [
        [
            n // edge
            for n, edge in zip(axes.ours(told.tile), axes.ours(maps.edges[name]), strict=True)
        ]
        for name in names
    ]
    if isinstance(outputs, HeatmapOutputs) and told.halo % strides[0][0]:
        raise BadInput(f"the halo {told.halo} must be a multiple of the stride {strides[0][0]}")
    multiple = math.lcm(2, told.multiple, *(stride for level in strides for stride in level))
    tile = list(axes.ours(told.tile))
    if min(tile) < 2 * told.halo + multiple:
        raise BadInput(
            f"a tile of {list(told.tile)} with a halo of {told.halo} leaves no core of {multiple} "
            f"voxels, the least that {called} can be cut into"
        )
    if not network.fixed and any(n % multiple for n in (*tile, 2 * told.halo)):
        raise BadInput(
            f"the tile {list(told.tile)} and twice the halo, {2 * told.halo}, must be multiples of "
            f"{multiple}: {called} has strides up to {max(map(max, strides))}"
        )
    common = {
        "tile": tile,
        "halo": told.halo,
        "multiple": multiple,
        "fixed": network.fixed,
    }
    if isinstance(outputs, HeatmapOutputs):
        return {
            "family": "heatmap",
            "grid_mm": told.spacing_mm[0],
            "stride": strides[0][0],
            "least_heat": outputs.least_score,
            **common,
        }
    return {
        "family": "retinanet",
        "grid_mm": list(axes.ours(told.spacing_mm)),
        "strides": strides,
        "firsts": [
            [
                _first(by, flip, outputs.anchors_at == "middle")
                for by, flip in zip(stride, axes.flipped, strict=True)
            ]
            for stride in strides
        ],
        "anchors": [
            [list(axes.ours(anchor)) for anchor in level.anchors] for level in outputs.levels
        ],
        "least_score": outputs.least_score,
        "overlap": outputs.overlap,
        **common,
    }


def _first(stride: int, flipped: bool, middle: bool) -> int:
    """Return the index at which the anchors of a map's first voxel stand.

    Turned round, a map's last voxel comes first, and it begins a stride before the end.
    """
    inside = stride // 2 if middle else 0
    return stride - 1 - inside if flipped else inside


def _score_names(told: Manifest) -> list[str]:
    outputs = told.outputs
    return [] if isinstance(outputs, HeatmapOutputs) else [level.scores for level in outputs.levels]


def _try(content: bytes, parameters: dict[str, Any], told: Manifest, called: str) -> Seen:
    """Show the phantom to the rewritten network, read by the family that the service will use."""
    lowered = {"least_score": LEAST_SCORE, "least_heat": LEAST_SCORE}
    family = family_of(told.name, {**parameters, **lowered})
    session = session_of(content, called)

    def answer(inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        try:
            answers = session.run(
                list(family.outputs), {name: array[None] for name, array in inputs.items()}
            )
        except Exception as error:
            raise BadInput(f"{called} fails on a tile of lung: {first_line(error)}") from error
        found = {
            name: item[0].astype(np.float32)
            for name, item in zip(family.outputs, answers, strict=True)
        }
        for name, values in found.items():
            if not np.isfinite(values).all():
                raise BadInput(f"{called} answers a tile of lung with no number in {name}")
        return found

    return look(family, told.outputs.least_score, told.intended_use, answer, called)


def _keep(
    content: bytes, parameters: dict[str, Any], source: Source, seen: Seen, folder: Path
) -> Model:
    """Write network and card, and move them to their place as one."""
    told = source.manifest
    place = folder / told.name / str(told.version)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as made:
            version = Path(made) / told.name / str(told.version)
            version.mkdir(parents=True)
            (version / "model.onnx").write_bytes(content)
            model = _with_card(version / "model.onnx", parameters, source, seen)
            others = [other for other in read_models(folder) if other.name == told.name]
            # Versions that Triton cannot serve side by side must not come into the folder.
            config_pbtxt([*others, model], Target.CPU)
            place.parent.mkdir(exist_ok=True)
            version.rename(place)
    except (ModelUnfit, ProbeFailed) as error:
        raise BadInput(f"{source.given.name} cannot be served: {error}") from error
    except OSError as error:
        raise CommandError(
            f"{folder} cannot be written ({error.strerror}): make room, or choose another folder "
            "with --data or LUNGMESH_MODELS",
            Exit.OUTPUT,
        ) from error
    return Model(place, model.card)


def _with_card(network: Path, parameters: dict[str, Any], source: Source, seen: Seen) -> Model:
    told = source.manifest
    shape = {"hu": parameters["tile"]}
    model = write_card(
        network,
        title=told.title,
        description=told.description,
        made_by=f"lungmesh models import {source.given.name}",
        intended_use=told.intended_use.model_dump(exclude_none=True),
        # A tile of such a network fills a device by itself.
        max_batch_size=1,
        parameters=parameters,
        shapes=shape,
        warm_up=shape,
        licence=told.licence,
    )
    model.card["imported"] = {
        "file": source.given.name,
        "sha256": checksum(source.given),
        "checksum": source.checked,
        "manifest": told.model_dump(mode="json", exclude_none=True),
        "phantom": asdict(seen),
    }
    (network.parent / "card.json").write_text(
        json.dumps(model.card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return model
