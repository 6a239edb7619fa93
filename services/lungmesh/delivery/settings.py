"""Settings of the delivery service (`LUNGMESH_DELIVERY__…`)."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lungmesh.delivery.secret import Secret, Tls

# What of a report a DICOM destination may take; names of its artefacts begin so.
Object = Literal["sr", "seg", "gsps", "key", "pdf", "rtstruct"]
OBJECTS: tuple[Object, ...] = ("sr", "seg", "gsps", "key", "pdf", "rtstruct")


class _Destination(BaseModel):
    """What every destination has."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern="[a-z0-9][a-z0-9_-]{0,31}", description="how events and logs call it")
    tenant: str = Field(pattern="[a-z0-9][a-z0-9-]{0,62}", description="whose reports it gets")
    when: Literal["written", "signed"] = Field(
        "written", description="every report, or only those that a radiologist has signed"
    )
    latest_only: bool = Field(
        True, description="leave out an edition that was not sent before a newer one came"
    )
    most_age_days: float = Field(
        7.0, gt=0, le=365, description="after so long without success a report is a dead letter"
    )
    connect_seconds: float = Field(15.0, gt=0, le=300, description="longest wait for a connection")
    answer_seconds: float = Field(60.0, gt=0, le=600, description="longest wait for one answer")


class _OfObjects(_Destination):
    objects: list[Object] = Field(
        list(OBJECTS), min_length=1, description="which DICOM objects it gets, as far as made"
    )


class DicomDestination(_OfObjects):
    """A PACS that takes objects by C-STORE."""

    kind: Literal["dicom"]
    host: str = Field(min_length=1, description="its address")
    port: int = Field(ge=1, le=65535, description="its DICOM port")
    ae_title: str = Field(min_length=1, max_length=16, description="its AE title")
    calling_ae_title: str = Field(
        "LUNGMESH", min_length=1, max_length=16, description="our AE title, as the PACS knows us"
    )
    commitment: bool = Field(
        False, description="ask it to commit what it stored; it answers to our dicom_port"
    )
    commitment_seconds: float = Field(
        3600.0, ge=1, description="ask again when it has not answered for so long"
    )
    tls: Tls | None = Field(None, description="DICOM over TLS")


class _Web(BaseModel):
    """How to reach a web server and who we are there."""

    url: str = Field(pattern=r"https?://[^\s/]+(/\S*)?", description="its base URL")
    token: Secret | None = Field(None, description="bearer token")
    user: str = Field("", description="user of basic authentication")
    password: Secret | None = Field(None, description="its password")
    tls: Tls | None = Field(None, description="for https: another authority, our certificate")

    @model_validator(mode="after")
    def _one_way_in(self) -> _Web:
        """Raise ValueError for two credentials, or half of one."""
        if bool(self.user) != (self.password is not None):
            raise ValueError("user and password go together")
        if self.user and self.token is not None:
            raise ValueError("either token or user and password")
        if self.tls is not None and not self.url.startswith("https://"):
            raise ValueError("tls is for an https url")
        return self


class StowDestination(_OfObjects, _Web):
    """A PACS or archive that takes objects by DICOMweb; `url` is the base of `/studies`."""

    kind: Literal["stow"]


class FhirDestination(_Destination, _Web):
    """An EHR that takes the report as a FHIR R4 transaction; `url` is its base."""

    kind: Literal["fhir"]
    # An older edition would overwrite the newer one's resources.
    latest_only: Literal[True] = True
    patient_system: str = Field(
        min_length=1, description="identifier system of the hospital's PatientID there"
    )


class MllpDestination(_Destination):
    """A RIS or EHR that takes HL7 v2 messages over MLLP."""

    kind: Literal["mllp"]
    host: str = Field(min_length=1, description="its address")
    port: int = Field(ge=1, le=65535, description="its port")
    application: str = Field("", max_length=180, description="MSH-5, as it calls itself")
    facility: str = Field("", max_length=180, description="MSH-6")
    pdf: bool = Field(False, description="send the PDF along, as encapsulated data")
    tls: Tls | None = Field(None, description="MLLP over TLS")


Destination = Annotated[
    DicomDestination | StowDestination | FhirDestination | MllpDestination,
    Field(discriminator="kind"),
]


class DeliverySettings(BaseSettings):
    """Where reports go, and who restores an identity."""

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_DELIVERY__", extra="ignore")

    destinations: list[Destination] = Field(
        [], description="JSON list of the destinations; none: nothing is sent"
    )
    ingest: str = Field("", description="host:port of ingest's gRPC, which restores the identity")
    restore_token: SecretStr = Field(
        SecretStr(""), description="what ingest asks of who restores an identity"
    )
    first_backoff_seconds: float = Field(
        1.0, gt=0, description="wait after the first passing failure; doubled at each further one"
    )
    most_backoff_seconds: float = Field(600.0, gt=0, description="longest wait between two tries")
    look_seconds: float = Field(
        5.0, gt=0, description="how often a destination's worker looks for what others wrote"
    )
    lease_seconds: float = Field(
        30.0, ge=1, description="after so long without a sign of life another process takes over"
    )
    count_seconds: float = Field(
        15.0, gt=0, description="seconds between two counts of what waits, for the metrics"
    )
    dicom_host: str = Field("127.0.0.1", description="address that commitments are answered to")
    dicom_port: int = Field(
        0, ge=0, le=65535, description="its port; 0 takes a free one, which no PACS can know"
    )

    @model_validator(mode="after")
    def _whole(self) -> DeliverySettings:
        """Raise ValueError for destinations that cannot be sent to."""
        if self.destinations and not (self.ingest and self.restore_token.get_secret_value()):
            raise ValueError(
                "destinations are set, so LUNGMESH_DELIVERY__INGEST and "
                "LUNGMESH_DELIVERY__RESTORE_TOKEN must be set too"
            )
        names = Counter((one.tenant, one.name) for one in self.destinations)
        for (tenant, name), count in names.items():
            if count > 1:
                raise ValueError(f"two destinations of tenant {tenant} have the same name, {name}")
        return self
