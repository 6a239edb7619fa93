"""Settings of the preprocess service (`LUNGMESH_PREPROCESS__…`)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PreprocessSettings(BaseSettings):
    """How much of the machine one study may use."""

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_PREPROCESS__", extra="ignore")

    workers: int = Field(2, ge=1, le=64, description="slices read and decoded at once")
    concurrency: int = Field(
        1, ge=1, le=16, description="studies handled at once; each holds its volume in memory"
    )
    deadline_seconds: float = Field(300.0, gt=0, description="longest time for one study")
