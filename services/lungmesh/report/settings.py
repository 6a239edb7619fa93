"""Settings of the report service (`LUNGMESH_REPORT__…`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ReportSettings(BaseSettings):
    """What the report holds."""

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_REPORT__", extra="ignore")

    key_image_nodules: int = Field(
        10, ge=0, le=100, description="nodules that get key images, in order of their number"
    )
    templates: Path | None = Field(
        None, description="folder of the hospital's own templates, docs/report-templates.md"
    )
    concurrency: int = Field(1, ge=1, le=16, description="reports written at once")
    deadline_seconds: float = Field(180.0, gt=0, description="longest time for one report")
