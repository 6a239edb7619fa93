"""Pseudonyms: found by a keyed hash, sealed, and shown to nobody."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from lungmesh.ingest.header import check_file
from lungmesh.ingest.identity import Identity, Vault, WrongKey, identity_of
from tests.support.bad_dicom import encoded
from tests.support.ingest import IDENTITY_KEY, ct_slice

SOMEBODY = Identity("42", "HOSPITAL", "王^小东", "19600203", "M")


def test_what_is_sealed_comes_back_whole() -> None:
    vault = Vault(IDENTITY_KEY)
    sealed = vault.seal(SOMEBODY)
    assert vault.open(sealed) == SOMEBODY
    assert b"42" not in sealed
    assert "王".encode() not in sealed


def test_another_key_opens_nothing_and_finds_nobody() -> None:
    ours, theirs = Vault(IDENTITY_KEY), Vault(Fernet.generate_key().decode())
    with pytest.raises(WrongKey, match="IDENTITY_KEY"):
        theirs.open(ours.seal(SOMEBODY))
    assert ours.lookup("a", "42", "") != theirs.lookup("a", "42", "")


def test_a_patient_is_tenant_id_and_issuer_together() -> None:
    vault = Vault(IDENTITY_KEY)
    same = vault.lookup("a", "42", "X")
    assert vault.lookup("a", " 42 ", "X") == same
    others = {
        vault.lookup("b", "42", "X"),
        vault.lookup("a", "42", ""),
        vault.lookup("a", "43", "X"),
        vault.lookup("a", "4", "2X"),
    }
    assert len(others | {same}) == 5


def test_studies_without_a_patient_id_are_not_taken_for_one_patient() -> None:
    vault = Vault(IDENTITY_KEY)
    assert vault.lookup("a", "", "", "1.2.3") != vault.lookup("a", "", "", "1.2.4")
    assert vault.lookup("a", "", "", "1.2.3") == vault.lookup("a", " ", "", "1.2.3")
    assert vault.lookup("a", "1.2.3", "") != vault.lookup("a", "", "", "1.2.3")


@pytest.mark.parametrize("character_set", ["ISO_IR 192", "GB18030", "GBK"])
def test_the_identity_is_read_in_the_headers_character_set(character_set: str) -> None:
    header = ct_slice(
        "unit",
        SpecificCharacterSet=character_set,
        PatientName="王^小东",
        IssuerOfPatientID="HOSPITAL",
    )
    identity = identity_of(check_file(encoded(header)).dataset)
    assert identity == Identity("SECRET-unit", "HOSPITAL", "王^小东", "19600203", "F")
    assert repr(identity) == "Identity(…)"
