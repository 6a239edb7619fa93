"""What a stage keeps of each revision of a study and each edition of its result, newest last.

Editions are of one revision: late exams and corrections make a new one of the same images.
"""

from __future__ import annotations

from lungmesh.mesh.blobs import BlobMissing, BlobStore


def revision_key(tenant: str, study_id: str, name: str, revision: int, edition: int = 1) -> str:
    """Return the key of an edition: beside the revisions' own folders, in their order as text."""
    later = f"e{edition:010d}" if edition > 1 else ""
    return f"{tenant}/{study_id}/{name}/r{revision:010d}{later}"


def edition_folder(tenant: str, study_id: str, name: str, revision: int, edition: int) -> str:
    """Return the folder of what a stage writes for an edition; 0 counts as 1."""
    later = f"e{edition}" if edition > 1 else ""
    return f"{tenant}/{study_id}/r{revision}{later}/{name}"


def read_revision(
    blobs: BlobStore, tenant: str, study_id: str, name: str, revision: int, missing: str
) -> bytes:
    """Return the newest edition of what is kept under a name; revision 0 means the newest.

    Parameters
    ----------
    missing
        The sentence that says that nothing is kept.

    Raises BlobMissing when there is none.
    """
    start = revision_key(tenant, study_id, name, revision) if revision else ""
    keys = [key for key in blobs.keys(f"{tenant}/{study_id}/{name}") if key.startswith(start)]
    if not keys:
        raise BlobMissing(missing)
    return blobs.get_key(keys[-1])
