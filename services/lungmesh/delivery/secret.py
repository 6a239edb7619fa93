"""Secrets and TLS of a destination: settings name where they lie, and never hold them."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lungmesh.mesh.errors import Unavailable


class Secret(BaseModel):
    """A reference to a secret: a variable of the environment, or a mounted file."""

    model_config = ConfigDict(extra="forbid")

    env: str = Field("", description="variable that holds it")
    file: Path | None = Field(None, description="file that holds it; read again at every use")

    @model_validator(mode="after")
    def _there(self) -> Secret:
        """Raise ValueError when there is no secret."""
        if bool(self.env) == (self.file is not None):
            raise ValueError("name one of env and file")
        try:
            self.read()
        except Unavailable as error:
            raise ValueError(str(error)) from None
        return self

    def read(self) -> str:
        """Return the secret.

        Raises Unavailable when it is not there or empty.
        """
        if self.file is None:
            value, where = os.environ.get(self.env, ""), f"the variable {self.env}"
        else:
            where = f"the file {self.file}"
            try:
                value = self.file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeError):
                raise Unavailable(f"{where} cannot be read") from None
        if not value:
            raise Unavailable(f"{where} holds no secret")
        return value


class Tls(BaseModel):
    """Who is trusted at the other end, and who we say that we are."""

    model_config = ConfigDict(extra="forbid")

    ca_file: Path | None = Field(
        None, description="authorities that may have signed the peer; the system's when left out"
    )
    cert_file: Path | None = Field(None, description="our certificate, where the peer asks for one")
    key_file: Path | None = Field(None, description="its key")

    @model_validator(mode="after")
    def _whole(self) -> Tls:
        """Raise ValueError when a file is missing or no PEM."""
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        try:
            self.context()
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"its files cannot be used: {error}") from None
        return self

    def context(self) -> ssl.SSLContext:
        """Return a context that checks the peer's certificate and name.

        Raises OSError or ssl.SSLError for files that cannot be used.
        """
        context = ssl.create_default_context(cafile=self.ca_file and str(self.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file is not None and self.key_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context
