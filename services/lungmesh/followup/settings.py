"""Settings of the follow-up service (`LUNGMESH_FOLLOWUP__…`)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class FollowupSettings(BaseSettings):
    """How far back and how closely exams are compared."""

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_FOLLOWUP__", extra="ignore")

    priors: int = Field(
        2, ge=1, le=10, description="most recent earlier exams that are registered and compared"
    )
    least_dice: float = Field(
        0.80,
        ge=0,
        le=1,
        description="overlap of the lung masks below which a registration is refused",
    )
    concurrency: int = Field(1, ge=1, le=16, description="patients handled at once")
    deadline_seconds: float = Field(180.0, gt=0, description="longest time for one exam")
