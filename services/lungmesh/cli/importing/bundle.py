"""MONAI's bundle layout of `lung_nodule_ct_detection`: its configuration becomes a manifest.

Sources: `inference.json`, `metadata.json` and README of `models/lung_nodule_ct_detection` 0.6.8 in
Project-MONAI/model-zoo: axes RAS, 0.703125 x 0.703125 x 1.25 mm, -1024 … 300 HU to 0 … 1, three
anchors on three levels; its export names `output_0` … `output_5`, scores of all levels first and
then boxes. MONAI's `AnchorGeneratorWithAnchorShape` rounds half an anchor's edge to whole voxels;
from MONAI 1.6 on it puts anchors in the middle of a grid cell (its issue 7951, pull request 8475).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from lungmesh.cli.importing.manifest import Manifest, parse, read_tree
from lungmesh.mesh.errors import BadInput

_ANCHORS = "AnchorGeneratorWithAnchorShape"
# MONAI's own, where a bundle sets none: `BoxSelector`.
_LEAST_SCORE, _OVERLAP = 0.05, 0.5
_MIDDLE_SINCE = (1, 6)
# LUNA16 holds LIDC-IDRI's scans with slices up to 2.5 mm and asks for nodules from 3 mm on:
# Setio et al., Med Image Anal 2017;42:1.
_LUNA16_USE = {
    "nodule_types": ["solid", "part_solid", "non_solid"],
    "nodule_diameter_mm": {"min": 3},
    "slice_thickness_mm": {"max": 2.5},
}


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Attributes
    ----------
    folder
        The bundle's root.
    network
        ONNX or TorchScript below it.
    """

    folder: Path
    network: Path
    metadata: dict[str, Any]
    inference: dict[str, Any]

    @property
    def tile(self) -> tuple[int, int, int]:
        """The patch that it was trained on, else the one that it is used on."""
        train = self.folder / "configs" / "train.json"
        if train.is_file():
            patch = read_tree(train).get("patch_size")
            if patch is not None:
                return _whole(patch, "patch_size of train.json")
        return _whole(_value(self.inference, "infer_patch_size"), "infer_patch_size")

    def manifest(self, outputs: list[str], tile: tuple[int, int, int]) -> Manifest:
        """Return the manifest that the configuration amounts to.

        Parameters
        ----------
        outputs
            Names of the network's outputs in its order: scores of each level, then boxes of each.
        tile
            Voxels along the bundle's axes.

        Raises BadInput when the configuration is not that of a RetinaNet that we can read.
        """
        transforms = _value(self.inference, "preprocessing#transforms")
        spacing = _transform(transforms, "Spacingd")["pixdim"]
        window = _transform(transforms, "ScaleIntensityRanged")
        levels = _anchors(self.inference)
        if len(outputs) != 2 * len(levels):
            raise BadInput(
                f"{self.network.name} has {len(outputs)} outputs, but {len(levels)} levels of "
                f"anchors want {2 * len(levels)}: scores of each level, then boxes of each "
                "(export it with network_def#use_list_output)"
            )
        if _value(self.inference, "network_def#num_classes") != 1:
            raise BadInput("the bundle tells several classes apart: only nodule or not can be read")
        said = " ".join(str(item) for item in self.inference.get("detector_ops", []))
        return parse(
            {
                "name": self._name(),
                "version": self._version(),
                "title": str(self.metadata.get("name") or self.metadata.get("task") or "detector"),
                "description": self._description(),
                "licence": f"the bundle's own; {self.metadata.get('copyright', 'no copyright')}",
                "intended_use": self._use(),
                "axes": _transform(transforms, "Orientationd")["axcodes"],
                "spacing_mm": spacing,
                "tile": tile,
                "window": {
                    "low": window["a_min"],
                    "high": window["a_max"],
                    "to": [window["b_min"], window["b_max"]],
                    "clip": window.get("clip", False),
                },
                "outputs": {
                    "family": "retinanet",
                    "anchors_at": "middle" if self._monai() >= _MIDDLE_SINCE else "corner",
                    "least_score": _number_in(said, "score_thresh", _LEAST_SCORE),
                    "overlap": _number_in(said, "nms_thresh", _OVERLAP),
                    "levels": [
                        {"scores": score, "boxes": boxes, "anchors": anchors}
                        for score, boxes, anchors in zip(
                            outputs[: len(levels)], outputs[len(levels) :], levels, strict=True
                        )
                    ],
                },
            },
            f"the bundle {self.folder.name}",
        )

    def check(self) -> str:
        """Compare the network with its checksum in large_files.yml.

        Returns in words what was found. Raises BadInput when it differs.
        """
        listed = self.folder / "large_files.yml"
        name = self.network.relative_to(self.folder).as_posix()
        entries = read_tree(listed).get("large_files", []) if listed.is_file() else []
        for entry in entries:
            kind = str(entry.get("hash_type", ""))
            if entry.get("path") == name and kind in ("md5", "sha1", "sha256"):
                found = hashlib.new(kind, self.network.read_bytes(), usedforsecurity=False)
                if found.hexdigest() != entry.get("hash_val"):
                    raise BadInput(f"{name} does not have the {kind} of the bundle's {listed.name}")
                return f"its {kind} is that of {listed.name}"
        return "the bundle gives no checksum for it"

    def _name(self) -> str:
        told = str(self.metadata.get("name") or self.folder.resolve().name)
        return re.sub(r"[^a-z0-9]+", "_", told.lower()).strip("_")

    def _version(self) -> int:
        """Return 608 for 0.6.8: Triton knows integers only."""
        told = str(self.metadata.get("version", ""))
        parts = re.fullmatch(r"(\d+)\.(\d{1,2})\.(\d{1,2})", told)
        if parts is None:
            raise BadInput(f"metadata.json: version {told!r} is not like 0.6.8")
        major, minor, patch = (int(part) for part in parts.groups())
        return max(1, 10000 * major + 100 * minor + patch)

    def _monai(self) -> tuple[int, int]:
        """Return the version of MONAI that the network was trained with."""
        told = str(self.metadata.get("monai_version", ""))
        parts = re.match(r"(\d+)\.(\d+)", told)
        if parts is None:
            raise BadInput(
                f"metadata.json: monai_version {told!r} is not like 1.4.0, and where the anchors "
                "stand depends on it"
            )
        return int(parts.group(1)), int(parts.group(2))

    def _description(self) -> str:
        told = self.metadata
        return (
            f"{told.get('description', '')} (MONAI bundle, version {told.get('version')}, "
            f"by {told.get('authors', 'unknown')})"
        ).strip()

    def _use(self) -> dict[str, Any]:
        told = self.metadata
        purpose = {"purpose": str(told.get("intended_use") or "not stated by the bundle")}
        data = f"{told.get('data_source', '')} {told.get('description', '')}".lower()
        return purpose | (_LUNA16_USE if "luna16" in data else {})


def read_bundle(folder: Path) -> Bundle:
    """Find configuration and network of a bundle.

    Raises BadInput when the folder is no bundle, or holds no network that can be imported.
    """
    configs = folder / "configs"
    if not (configs / "metadata.json").is_file():
        raise BadInput(f"{folder} is no MONAI bundle: it has no configs/metadata.json")
    inference = next(
        (path for path in sorted(configs.glob("inference.*")) if path.suffix != ".py"), None
    )
    if inference is None:
        raise BadInput(f"{folder} has no configs/inference.json")
    models = folder / "models"
    networks = sorted(models.glob("*.onnx")) or sorted(
        path for path in models.glob("*.ts") if "trt" not in path.stem
    )
    if not networks:
        raise BadInput(
            f"{folder}/models holds no .onnx and no .ts, only what needs MONAI to run: export it "
            "first, as docs/models-import.md shows"
        )
    if len(networks) > 1:
        names = ", ".join(path.name for path in networks)
        raise BadInput(f"{models} holds several networks ({names}): leave one")
    return Bundle(folder, networks[0], read_tree(configs / "metadata.json"), read_tree(inference))


def ends_of(path: Path) -> tuple[list[str], tuple[int, int, int] | None]:
    """Return an ONNX file's output names, and the edges of its image where it fixes them.

    Raises BadInput.
    """
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:
        raise BadInput(f"{path.name} is not an ONNX file") from error
    weights = {item.name for item in graph.initializer}
    images = [item for item in graph.input if item.name not in weights]
    edges = [size.dim_value for size in images[0].type.tensor_type.shape.dim][-3:] if images else []
    fixed = (edges[0], edges[1], edges[2]) if len(edges) == 3 and all(edges) else None
    return [item.name for item in graph.output], fixed


def _anchors(inference: dict[str, Any]) -> list[list[list[float]]]:
    """Return the anchors of each level, voxels along the bundle's axes."""
    kind = str(_value(inference, "anchor_generator#_target_"))
    if not kind.endswith(_ANCHORS):
        raise BadInput(f"the bundle's anchors are of {kind}: only {_ANCHORS} can be read")
    shapes = np.asarray(_value(inference, "anchor_generator#base_anchor_shapes"), float)
    scales = np.asarray(_value(inference, "anchor_generator#feature_map_scales"), float)
    if shapes.ndim != 2 or shapes.shape[1] != 3 or scales.ndim != 1:
        raise BadInput("the bundle's anchors are not given by three edges each")
    # NumPy rounds halves to even, as PyTorch does.
    return [(2 * np.round(scale * shapes / 2)).tolist() for scale in scales]


def _value(tree: dict[str, Any], path: str) -> Any:
    """Return a field of MONAI's configuration, such as network_def#num_classes; @ leads on.

    Raises BadInput when it is missing, or is Python to be run.
    """
    for _ in range(8):
        found: Any = tree
        for part in path.split("#"):
            if not isinstance(found, dict) or part not in found:
                raise BadInput(f"the bundle's inference.json has no {path}")
            found = found[part]
        if not isinstance(found, str) or found[:1] not in ("@", "$"):
            return found
        if found.startswith("$"):
            break
        path = found[1:]
    raise BadInput(
        f"the bundle's {path} is an expression, which is not run here: write a manifest instead"
    )


def _transform(transforms: Any, name: str) -> dict[str, Any]:
    for item in transforms if isinstance(transforms, list) else []:
        if isinstance(item, dict) and str(item.get("_target_", "")).endswith(name):
            return item
    raise BadInput(f"the bundle's preprocessing has no {name}: write a manifest instead")


def _number_in(said: str, name: str, otherwise: float) -> float:
    found = re.search(rf"{name}=([0-9.]+)", said)
    return float(found.group(1)) if found else otherwise


def _whole(values: Any, called: str) -> tuple[int, int, int]:
    if not isinstance(values, list) or [type(value) for value in values] != [int] * 3:
        raise BadInput(f"the bundle's {called} is not three whole numbers")
    return values[0], values[1], values[2]
