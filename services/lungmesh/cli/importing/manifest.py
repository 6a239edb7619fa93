"""The manifest of a foreign detector: what it wants to see and what its outputs mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lungmesh.mesh.errors import BadInput

_MOST_BYTES = 1024 * 1024
# Along each axis of the patient, its two directions.
_OPPOSITES = ({"R", "L"}, {"A", "P"}, {"S", "I"})

Mm = Annotated[float, Field(gt=0, le=50, allow_inf_nan=False)]
Edge = Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)]
Voxels = Annotated[int, Field(ge=1, le=1024)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Window(_Strict):
    """HU `low` … `high` become `to`; what lies outside is clipped when `clip` says so."""

    low: Finite
    high: Finite
    to: tuple[Finite, Finite] = (0.0, 1.0)
    clip: bool = True

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class Level(_Strict):
    """One level of a RetinaNet's pyramid: names of its outputs, edges of its anchors in voxels."""

    scores: str
    boxes: str
    anchors: list[tuple[Edge, Edge, Edge]] = Field(min_length=1, max_length=32)


class RetinaNetOutputs(_Strict):
    """Anchors, as in MONAI: scores [N, anchors, a, b, c] and boxes [N, anchors · 6, a, b, c]."""

    family: Literal["retinanet"]
    levels: list[Level] = Field(min_length=1, max_length=8)
    scores_are: Literal["logits", "probabilities"] = "logits"
    # Anchors of a map's voxel i: at i · stride, or there plus half a stride, rounded down.
    anchors_at: Literal["corner", "middle"] = "corner"
    least_score: Share = 0.02
    overlap: Share = 0.22

    @property
    def names(self) -> list[str]:
        """The outputs that are used."""
        return [name for level in self.levels for name in (level.scores, level.boxes)]


class HeatmapOutputs(_Strict):
    """Maps of one stride: how likely a nodule's centre is here, how large it is, where exactly."""

    family: Literal["heatmap"]
    heat: str
    heat_is: Literal["probability", "logit"] = "probability"
    size: str
    size_is: Literal["ln_mm", "mm"] = "ln_mm"
    # [N, 3, a, b, c], mm along the network's own axes; the middle of the voxel without it.
    offset: str | None = None
    least_score: Share = 0.05

    @property
    def names(self) -> list[str]:
        """The outputs that are used."""
        return [self.heat, self.size, *([self.offset] if self.offset else [])]


Outputs = Annotated[RetinaNetOutputs | HeatmapOutputs, Field(discriminator="family")]


class Between(_Strict):
    """A range; an end that is left out is open."""

    min: float | None = None
    max: float | None = None


class Thickness(_Strict):
    """Up to which slice thickness, mm."""

    max: Mm


class Use(_Strict):
    """What the network was made for; what is left out is not stated."""

    purpose: str = Field(min_length=1)
    nodule_types: list[Literal["solid", "part_solid", "non_solid"]] | None = None
    nodule_diameter_mm: Between | None = None
    slice_thickness_mm: Thickness | None = None
    age_years: Between | None = None
    contrast: str | None = None
    scanner: str | None = None


class Manifest(_Strict):
    """All that is needed to serve a detector; `docs/models-import.md` explains each field.

    Triples stand in the order of the network's own axes, which `axes` names: "RAS" is an input
    [right, front, head], whose indices grow towards these.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{2,47}$")
    version: int = Field(ge=1, le=10**9)
    title: str = Field(min_length=1, max_length=120)
    description: str = ""
    licence: str = Field(min_length=1)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    intended_use: Use
    axes: str = Field(pattern=r"^[RLAPSI]{3}$")
    spacing_mm: tuple[Mm, Mm, Mm]
    tile: tuple[Voxels, Voxels, Voxels]
    halo: int = Field(16, ge=0, le=256)
    multiple: int = Field(16, ge=1, le=256)
    window: Window
    outputs: Outputs

    @model_validator(mode="after")
    def _axes_are_three(self) -> Self:
        if any(len(pair & set(self.axes)) != 1 for pair in _OPPOSITES):
            raise ValueError(
                "axes must name one of R and L, one of A and P, and one of S and I, such as RAS"
            )
        return self

    @model_validator(mode="after")
    def _heatmap_is_cubic(self) -> Self:
        if self.outputs.family == "heatmap" and len(set(self.spacing_mm)) != 1:
            raise ValueError("a heatmap's spacing_mm must be the same along every axis")
        return self


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, YAML or JSON.

    Raises BadInput: one sentence that names file, field and fault.
    """
    return parse(read_tree(path), path.name)


def parse(content: Any, called: str) -> Manifest:
    """Check the content of a manifest.

    Parameters
    ----------
    called
        How the error names the file.

    Raises BadInput.
    """
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{called}: {place + ': ' if place else ''}{said}") from error


def read_tree(path: Path) -> Any:
    """Read a YAML or JSON file.

    Raises BadInput when it cannot be read or is neither.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadInput(f"{path.name} is larger than 1 MiB: that is no manifest")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path.name} is not text (UTF-8)") from error
    try:
        content: Any = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise BadInput(f"{path.name} is not {kind}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path.name} holds no fields")
    return content
