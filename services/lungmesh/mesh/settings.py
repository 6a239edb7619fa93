"""Settings, typed, from the environment (`LUNGMESH_…`); a wrong one stops the service at start."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import pydantic_settings
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lungmesh.mesh.errors import SettingsError


class KafkaSettings(BaseModel):
    """Where the broker is and how topics are made."""

    bootstrap: str = Field("127.0.0.1:9092", description="host:port list of the Kafka brokers")
    partitions: int = Field(4, ge=1, description="partitions of a topic that we create")
    replication_factor: int = Field(1, ge=1, description="replicas of a topic that we create")
    session_timeout_ms: int = Field(
        6000, ge=1000, description="a member that sends no heartbeat for this long leaves its group"
    )
    fetch_wait_ms: int = Field(
        50, ge=1, description="longest a fetch waits for records; tansu answers only at its end"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="whether the broker is spoken to by TLS, and asks who we are"
    )
    sasl_mechanism: str | None = Field(None, description="such as SCRAM-SHA-512")
    sasl_username: str | None = Field(None, description="user of the broker")
    sasl_password: SecretStr | None = Field(None, description="its password")
    ssl_cafile: Path | None = Field(None, description="authority that signed the broker")


class TlsSettings(BaseModel):
    """Who we are, and whose word we take for who others are (PEM files)."""

    certificate: Path = Field(description="our certificate, with what leads to the authority")
    key: Path = Field(description="its key")
    authority: Path = Field(description="authority that must have signed the peer's certificate")


class MeshSettings(BaseSettings):
    """What every service needs; each field is `LUNGMESH_<FIELD>` (`LUNGMESH_KAFKA__BOOTSTRAP`)."""

    model_config = SettingsConfigDict(
        env_prefix="LUNGMESH_",
        env_nested_delimiter="__",
        secrets_dir=None,
        extra="ignore",
    )

    blobs_url: str = Field(
        pattern=r"(file:///|s3://|az://|gs://).*", description="root of the object store"
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy async URL (sqlite+aiosqlite:///…, postgresql+psycopg://…)"
    )
    kafka: KafkaSettings = KafkaSettings()
    tls: TlsSettings | None = Field(
        None, description="between services: certificates on both sides of every gRPC call"
    )
    grpc_host: str = Field("127.0.0.1", description="address the gRPC server binds")
    grpc_port: int = Field(0, ge=0, le=65535, description="its port; 0 takes a free one")
    metrics_host: str = Field("127.0.0.1", description="address of /metrics, /livez and /readyz")
    metrics_port: int = Field(0, ge=0, le=65535, description="their port; 0 takes a free one")
    otlp_endpoint: str | None = Field(None, description="OpenTelemetry collector, host:port")
    log_level: str = Field("INFO", pattern="DEBUG|INFO|WARNING|ERROR", description="log level")
    ready_file: Path | None = Field(
        None, description="file that gets the service's bound ports as JSON once it is ready"
    )


S = TypeVar("S", bound=BaseSettings)


def load(kind: type[S]) -> S:
    """Read settings from the environment.

    Raises SettingsError: one line that names every wrong or missing variable.
    """
    prefix = kind.model_config.get("env_prefix", "")
    try:
        return kind()
    except pydantic_settings.SettingsError as error:
        # A list or table that is no JSON; the text names the field.
        field = str(error).partition('field "')[2].partition('"')[0]
        raise SettingsError(f"{prefix}{field.upper()}: must be JSON") from error
    except ValidationError as error:
        problems = [
            f"{prefix}{'__'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors()
        ]
        raise SettingsError("; ".join(problems)) from error
