"""Settings of the delivery service (`LUNGMESH_DELIVERY__…`)."""

from __future__ import annotations

from pydantic import BaseModel, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Destination(BaseModel):
    """A PACS that takes a tenant's reports."""

    name: str = Field(pattern="[a-z0-9][a-z0-9_-]{0,31}", description="how events and logs call it")
    tenant: str = Field(pattern="[a-z0-9][a-z0-9-]{0,62}", description="whose reports it gets")
    host: str = Field(min_length=1, description="its address")
    port: int = Field(ge=1, le=65535, description="its DICOM port")
    ae_title: str = Field(min_length=1, max_length=16, description="its AE title")
    calling_ae_title: str = Field(
        "LUNGMESH", min_length=1, max_length=16, description="our AE title, as the PACS knows us"
    )
    connect_seconds: float = Field(15.0, gt=0, le=300, description="longest wait for a connection")
    answer_seconds: float = Field(
        60.0, gt=0, le=600, description="longest wait for the answer to one object"
    )


class DeliverySettings(BaseSettings):
    """Where reports go, and who restores an identity."""

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_DELIVERY__", extra="ignore")

    destinations: list[Destination] = Field(
        [], description="JSON list of the PACS that get SR and SEG; none: nothing is sent"
    )
    ingest: str = Field("", description="host:port of ingest's gRPC, which restores the identity")
    restore_token: SecretStr = Field(
        SecretStr(""), description="what ingest asks of who restores an identity"
    )
    deadline_seconds: float = Field(
        300.0, gt=0, description="longest time for sending one report to all its destinations"
    )

    @model_validator(mode="after")
    def _can_restore(self) -> DeliverySettings:
        if self.destinations and not (self.ingest and self.restore_token.get_secret_value()):
            raise ValueError(
                "destinations are set, so LUNGMESH_DELIVERY__INGEST and "
                "LUNGMESH_DELIVERY__RESTORE_TOKEN must be set too"
            )
        names = [(destination.tenant, destination.name) for destination in self.destinations]
        if len(set(names)) != len(names):
            raise ValueError("two destinations of one tenant have the same name")
        return self
