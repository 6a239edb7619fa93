"""Settings of the malignancy service (`LUNGMESH_MALIGNANCY__…`)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class MalignancySettings(BaseSettings):
    """What counts as a nodule, and how much of the machine one study may use."""

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_MALIGNANCY__", extra="ignore")

    counted_from_score: float = Field(
        0.5,
        ge=0,
        le=1,
        description="detection score from which a candidate counts in Brock's number of nodules",
    )
    concurrency: int = Field(1, ge=1, le=16, description="studies handled at once")
    deadline_seconds: float = Field(120.0, gt=0, description="longest time for one study")
