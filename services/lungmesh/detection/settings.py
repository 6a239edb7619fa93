"""Settings of the detection service (`LUNGMESH_DETECTION__…`)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DetectionSettings(BaseSettings):
    """Where the networks run, and what is taken for a nodule."""

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_DETECTION__", extra="ignore")

    triton: str = Field(
        "127.0.0.1:8001", pattern=r"[^\s/]+:\d+", description="host:port of Triton's gRPC"
    )
    network: str = Field("nodule_blobs", description="name of the candidate network on Triton")
    network_version: str = Field("1", pattern=r"[0-9]+", description="its version")
    in_flight: int = Field(3, ge=1, le=64, description="tiles on their way to Triton at once")
    request_seconds: float = Field(60.0, gt=0, description="longest time for one tile")
    least_score: float = Field(
        0.3, ge=0, le=1, description="candidates of a lower detection score are dropped"
    )
    most_nodules: int = Field(12, ge=1, le=100, description="nodules given out at most")
    solid_above_hu: float = Field(
        -300.0, ge=-600, le=0, description="where the solid part of a subsolid nodule begins, HU"
    )
    concurrency: int = Field(
        1, ge=1, le=16, description="studies handled at once; each holds its volume in memory"
    )
    deadline_seconds: float = Field(300.0, gt=0, description="longest time for one study")
