"""Settings of the console."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class OidcSettings(BaseModel):
    """An OpenID Connect provider; without an issuer only local users sign in."""

    issuer: str = Field("", description="URL of the provider, as its discovery document names it")
    client_id: str = Field("", description="our name there")
    client_secret: SecretStr | None = Field(None, description="our password there, if it gave one")
    scope: str = Field("openid profile email", description="scopes that are asked for")
    user_claim: str = Field(
        "preferred_username", description="claim of the id token that names the user"
    )
    roles_claim: str = Field("roles", description="claim with the list of roles")
    tenants_claim: str = Field("tenants", description="claim with the list of tenants")
    roles: dict[str, str] = Field(
        {}, description="JSON object: the provider's word for a role to ours, where they differ"
    )
    tenants: list[str] = Field([], description="JSON list: tenants of users without the claim")


class ConsoleSettings(BaseSettings):
    """Each field is `LUNGMESH_CONSOLE__<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix="LUNGMESH_CONSOLE__", env_nested_delimiter="__", extra="ignore"
    )

    watch_interval_seconds: float = Field(
        1.0,
        gt=0,
        le=60,
        description="how often a watcher looks for changes that another console process wrote",
    )
    list_limit: int = Field(
        100, ge=1, le=1000, description="studies listed when the request names no limit"
    )
    http_host: str = Field("127.0.0.1", description="address the web page is served at")
    http_port: int = Field(0, ge=0, le=65535, description="its port; 0 takes a free one")
    public_url: str = Field(
        "",
        pattern=r"(https?://[A-Za-z0-9.:\[\]-]+)?",
        description="how browsers reach the page, such as https://lungmesh.hospital.cn; with https "
        "the cookie is Secure and HSTS is sent",
    )
    hosts: list[str] = Field(
        ["127.0.0.1", "localhost"], description="JSON list: Host names taken beside public_url's"
    )
    followup: str = Field(
        "127.0.0.1:50051", description="host:port of the follow-up service's gRPC"
    )
    followup_seconds: float = Field(
        120.0, gt=0, description="longest wait for a patient's timeline to be computed again"
    )
    delivery: str = Field(
        "", description="host:port of the delivery service's gRPC, which tells of destinations"
    )
    first_password_file: Path | None = Field(
        None, description="file that gets the first user's password (0600)"
    )
    first_tenants: list[str] = Field(
        ["default"], description="JSON list: tenants of the first user"
    )
    session_idle_minutes: float = Field(
        30.0, gt=0, description="a session ends after so long without a request"
    )
    session_hours: float = Field(12.0, gt=0, description="a session ends after so long in any case")
    fresh_login_seconds: float = Field(
        300.0, gt=0, description="how old a provider's login may be to sign"
    )
    login_failures: int = Field(
        5, ge=1, description="wrong passwords for one name from one address, then 429"
    )
    login_window_minutes: float = Field(
        15.0, gt=0, description="for how long a wrong password counts"
    )
    grace_days: int = Field(
        30,
        ge=0,
        le=365,
        description="as followup's: days after its due date on which an exam is overdue",
    )
    lost_days: int = Field(
        180, ge=1, le=3650, description="as followup's: days until a patient counts as lost"
    )
    oidc: OidcSettings = OidcSettings()

    @model_validator(mode="after")
    def _whole(self) -> ConsoleSettings:
        """Raise ValueError for a provider without what a login by it needs."""
        if self.oidc.issuer and not (self.oidc.client_id and self.public_url):
            raise ValueError("oidc.issuer needs oidc.client_id and public_url")
        return self

    @property
    def secure(self) -> bool:
        """Whether browsers reach the page by https."""
        return self.public_url.startswith("https://")
