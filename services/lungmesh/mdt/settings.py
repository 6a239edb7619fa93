"""Settings of the mdt service."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class MdtSettings(BaseSettings):
    """Each field is `LUNGMESH_MDT__<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_MDT__", extra="ignore")

    concurrency: int = Field(4, ge=1, le=64, description="studies handled at once")
    deadline_seconds: float = Field(30.0, gt=0, description="longest time for one study")
