"""Settings of the console."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ConsoleSettings(BaseSettings):
    """Each field is `LUNGMESH_CONSOLE__<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_CONSOLE__", extra="ignore")

    watch_interval_seconds: float = Field(
        1.0,
        gt=0,
        le=60,
        description="how often a watcher looks for changes that another console process wrote",
    )
    list_limit: int = Field(
        100, ge=1, le=1000, description="studies listed when the request names no limit"
    )
