"""Settings of the detection service (`LUNGMESH_DETECTION__…`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

_VERSION = r"^[0-9]+$"
# A detector's version, or those of detector/reducer/segmenter.
_VERSIONS = r"^[0-9]+(/[0-9]+/[0-9]+)?$"


class DetectionSettings(BaseSettings):
    """Where the networks run, which ones, and what is taken for a nodule."""

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_DETECTION__", extra="ignore")

    triton: str = Field(
        "127.0.0.1:8001", pattern=r"[^\s/]+:\d+", description="host:port of Triton's gRPC"
    )
    shared_memory: Literal["auto", "off"] = Field(
        "auto", description="auto: tensors by shared memory where Triton runs on this node"
    )
    network: str = Field("nodule_detector", description="name of the detector on Triton")
    network_version: str = Field("2", pattern=_VERSION, description="its version")
    reducer: str = Field("nodule_reducer", description="name of the reducer on Triton")
    reducer_version: str = Field("1", pattern=_VERSION, description="its version")
    segmenter: str = Field("nodule_segmenter", description="name of the segmenter on Triton")
    segmenter_version: str = Field("2", pattern=_VERSION, description="its version")
    canary_version: str | None = Field(
        None,
        pattern=_VERSIONS,
        description="versions that read some studies: detector, or detector/reducer/segmenter",
    )
    canary_share: float = Field(
        0.0, ge=0, le=1, description="share of studies that the canary reads, chosen by study id"
    )
    shadow_version: str | None = Field(
        None,
        pattern=_VERSIONS,
        description="versions that read every study too; their result is kept, not passed on",
    )
    in_flight: int = Field(3, ge=1, le=64, description="requests on their way to Triton at once")
    request_seconds: float = Field(60.0, gt=0, description="longest time for one request")
    most_candidates: int = Field(
        100, ge=1, le=500, description="places of a CT that the reducer looks at, at most"
    )
    # No false positive on six scans of the simulated validation split, where 0.6 has 0.7 a scan.
    least_score: float = Field(
        0.65, ge=0, le=1, description="candidates of a lower detection score are dropped"
    )
    least_diameter_mm: float = Field(
        2.5, ge=0, le=30, description="nodules of a smaller mean diameter are dropped"
    )
    most_nodules: int = Field(12, ge=1, le=200, description="nodules given out at most")
    concurrency: int = Field(
        1, ge=1, le=16, description="studies handled at once; each holds its volume in memory"
    )
    deadline_seconds: float = Field(300.0, gt=0, description="longest time for one study")
