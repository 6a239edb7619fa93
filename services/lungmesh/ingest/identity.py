"""Who a pseudonym is: sealed, found by a keyed hash, turned back only here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import asdict, dataclass

from cryptography.fernet import Fernet, InvalidToken
from pydicom.dataset import Dataset

from lungmesh.ingest.part10 import text
from lungmesh.mesh.errors import MeshError


class WrongKey(MeshError):
    """The identity was sealed with another key than the one that is set."""


@dataclass(frozen=True)
class Identity:
    """A patient as the sender names them; never logged."""

    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str

    def __repr__(self) -> str:
        """Show nothing."""
        return "Identity(…)"


def identity_of(dataset: Dataset) -> Identity:
    """Read the identity from a header; what is missing or unreadable is empty."""
    return Identity(
        patient_id=text(dataset, "PatientID"),
        issuer_of_patient_id=text(dataset, "IssuerOfPatientID"),
        patient_name=text(dataset, "PatientName"),
        patient_birth_date=text(dataset, "PatientBirthDate"),
        patient_sex=text(dataset, "PatientSex"),
    )


class Vault:
    """Seals and finds identities with one key.

    Parameters
    ----------
    key
        A Fernet key. The key of the lookup hash is derived from it.
    """

    def __init__(self, key: str) -> None:
        self._fernet = Fernet(key)
        secret = base64.urlsafe_b64decode(key)
        self._lookup_key = hmac.digest(secret, b"lungmesh ingest patient lookup", hashlib.sha256)

    def lookup(
        self, tenant: str, patient_id: str, issuer: str, study_instance_uid: str = ""
    ) -> str:
        """Return the keyed hash by which a patient is found: 64 hexadecimal digits.

        Without a PatientID two studies cannot be known to be of one patient, so the study stands
        for it.
        """
        named = [tenant, "patient", patient_id.strip(), issuer.strip()]
        parts = named if patient_id.strip() else [tenant, "study", study_instance_uid]
        return hmac.new(self._lookup_key, json.dumps(parts).encode(), hashlib.sha256).hexdigest()

    def seal(self, identity: Identity) -> bytes:
        """Encrypt."""
        return self._fernet.encrypt(json.dumps(asdict(identity)).encode())

    def open(self, sealed: bytes) -> Identity:
        """Decrypt.

        Raises WrongKey.
        """
        try:
            return Identity(**json.loads(self._fernet.decrypt(sealed)))
        except InvalidToken as error:
            raise WrongKey(
                "the identity was sealed with another key: set LUNGMESH_INGEST__IDENTITY_KEY "
                "to the key that was in use"
            ) from error
