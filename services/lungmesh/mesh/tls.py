"""TLS with certificates on both sides: between services (gRPC), and at the DICOM door.

Files are read when a server starts and when a channel is opened: a renewed certificate counts
from the next start on.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509

from lungmesh.mesh.errors import SettingsError
from lungmesh.mesh.settings import TlsSettings


def server_credentials(tls: TlsSettings) -> grpc.ServerCredentials:
    """Return what a server shows, and that it asks its callers for a certificate.

    Raises SettingsError for a file that cannot be read.
    """
    key, certificate, authority = _read(tls.key), _read(tls.certificate), _read(tls.authority)
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)


def open_channel(
    address: str, tls: TlsSettings | None, options: Sequence[tuple[str, Any]] = ()
) -> grpc.aio.Channel:
    """Open a channel to another service, in the clear where no TLS is set.

    Raises SettingsError for a file that cannot be read.
    """
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(
        _read(tls.authority), _read(tls.key), _read(tls.certificate)
    )
    return grpc.aio.secure_channel(address, credentials, options=options)


def listener_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return the context of a TCP listener (TLS 1.2 or newer, as DICOM's BCP 195 profile asks).

    A peer must show a certificate that the authority signed. Its handshake begins at the first
    read, not at the accept: a peer that says nothing holds up nobody else.

    Raises SettingsError for files that cannot be used.
    """
    context = _LateHandshake(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        context.load_verify_locations(tls.authority)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"the TLS files {tls.certificate}, {tls.key}, {tls.authority} cannot be used: {error}"
        ) from error
    return context


def not_after(certificate: Path) -> float:
    """Return when a certificate ends, seconds since 1970; of a chain its first one.

    Raises SettingsError for a file that is no certificate.
    """
    try:
        first = x509.load_pem_x509_certificates(_read(certificate))[0]
    except ValueError as error:
        raise SettingsError(f"the TLS file {certificate} holds no certificate") from error
    return first.not_valid_after_utc.timestamp()


class _LateHandshake(ssl.SSLContext):
    def wrap_socket(  # type: ignore[override]
        self, sock: socket.socket, server_side: bool = False
    ) -> ssl.SSLSocket:
        """Wrap an accepted connection."""
        return super().wrap_socket(sock, server_side=server_side, do_handshake_on_connect=False)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"the TLS file {path} cannot be read: {error.strerror}") from error
