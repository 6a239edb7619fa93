"""Deterministic ids: the same input gives the same id, so a repeat is harmless."""

from __future__ import annotations

import uuid

# UUIDv5 of the DNS namespace and "lungmesh.v1"; changing it changes every id.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "lungmesh.v1")


def deterministic_id(*parts: object) -> str:
    """Return the UUIDv5 of the parts, which are told apart even when their texts run together."""
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(str(part) for part in parts)))


def study_id(tenant: str, study_instance_uid: str) -> str:
    """Return the mesh's id of a study: no patient data, the same at every arrival."""
    return deterministic_id("study", tenant, study_instance_uid)


def dicom_uid(*parts: object) -> str:
    """Return a DICOM UID made from the parts: a UUID-derived UID (PS3.5 Annex B.2)."""
    return f"2.25.{uuid.UUID(deterministic_id('uid', *parts)).int}"
