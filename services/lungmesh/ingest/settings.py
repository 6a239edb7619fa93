"""Settings of ingest (`LUNGMESH_INGEST__…`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, StringConstraints, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lungmesh.mesh.settings import TlsSettings

AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[\x20-\x5b\x5d-\x7e]{1,16}$")
]
Tenant = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_GIB = 1024**3


class IngestSettings(BaseSettings):
    """Where ingest listens, whom it takes studies from, and how long it waits."""

    model_config = SettingsConfigDict(
        env_prefix="LUNGMESH_INGEST__", env_nested_delimiter="__", extra="ignore"
    )

    identity_key: SecretStr = Field(
        description="Fernet key (32 bytes, URL-safe base64) that seals patient identities; "
        "with another key, pseudonyms given before can be neither found nor turned back"
    )
    restore_token: SecretStr | None = Field(
        None, description="bearer token of RestoreIdentity; without it nobody may call it"
    )
    spool: Path = Field(description="folder for received bytes, on a disk that survives a crash")
    fsync: bool = Field(
        False,
        description="wait for the disk before an object is acknowledged: survives a power cut too",
    )

    dicom_host: str = Field("127.0.0.1", description="address of the DICOM listener")
    dicom_port: int = Field(0, ge=0, le=65535, description="its port; 0 takes a free one")
    dicom_tls: TlsSettings | None = Field(
        None, description="DICOM over TLS; a sender must show a certificate of the authority"
    )
    tenants: dict[AeTitle, Tenant] = Field(
        {"LUNGMESH": "default"}, min_length=1, description="called AE title to tenant, as JSON"
    )
    calling_ae_titles: list[AeTitle] = Field(
        [], description="calling AE titles that may associate, as JSON; empty means all"
    )
    max_associations: int = Field(16, ge=1, le=500, description="associations open at once")
    max_pdu_bytes: int = Field(
        131072, ge=4096, description="largest PDU taken; dcmtk sends at most 131072"
    )
    association_idle_seconds: float = Field(
        60.0, gt=0, description="an association on which nothing moves for this long is aborted"
    )

    stow_host: str = Field("127.0.0.1", description="address of the STOW-RS server")
    stow_port: int = Field(0, ge=0, le=65535, description="its port; 0 takes a free one")
    stow_tenant: Tenant = Field("default", description="tenant of STOW-RS without tokens")
    stow_tokens: dict[str, Tenant] = Field(
        {}, description="bearer token to tenant, as JSON; when set, every request needs one"
    )
    max_request_bytes: int = Field(4 * _GIB, ge=1, description="largest STOW-RS request")

    max_object_bytes: int = Field(_GIB // 2, ge=1024, description="largest DICOM object accepted")
    min_free_bytes: int = Field(
        _GIB, ge=0, description="below this much free disk everything new is refused"
    )

    quiet_seconds: float = Field(
        30.0, gt=0, description="a study is complete when no instance arrived for this long"
    )
    close_on_release: bool = Field(
        True, description="a study is complete when the associations that sent it are released"
    )
    release_grace_seconds: float = Field(
        2.0, ge=0, description="wait after the release, so that CloseStudy can add clinical context"
    )
    hold_seconds: float = Field(
        600.0,
        gt=0,
        description="longest that an open association keeps a study open without sending to it",
    )
    expiry_seconds: float = Field(
        900.0, gt=0, description="a study without any usable image is given up after this long"
    )

    @field_validator("identity_key")
    @classmethod
    def _is_fernet_key(cls, key: SecretStr) -> SecretStr:
        try:
            Fernet(key.get_secret_value())
        except ValueError as error:
            raise ValueError("must be a Fernet key: 32 random bytes as URL-safe base64") from error
        return key

    def tenant_names(self) -> frozenset[str]:
        """Return every tenant that may send."""
        return frozenset({*self.tenants.values(), *self.stow_tokens.values(), self.stow_tenant})
