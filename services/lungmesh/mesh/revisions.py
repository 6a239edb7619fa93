"""What a stage keeps of each revision of a study, so that the newest is found at once."""

from __future__ import annotations

from lungmesh.mesh.blobs import BlobMissing, BlobStore


def revision_key(tenant: str, study_id: str, name: str, revision: int) -> str:
    """Return the key of a revision: beside the revisions' own folders, in their order as text."""
    return f"{tenant}/{study_id}/{name}/r{revision:010d}"


def read_revision(
    blobs: BlobStore, tenant: str, study_id: str, name: str, revision: int, missing: str
) -> bytes:
    """Return what is kept under a name; revision 0 means the newest.

    Parameters
    ----------
    missing
        The sentence that says that nothing is kept.

    Raises BlobMissing when there is none.
    """
    if revision:
        return blobs.get_key(revision_key(tenant, study_id, name, revision))
    keys = list(blobs.keys(f"{tenant}/{study_id}/{name}"))
    if not keys:
        raise BlobMissing(missing)
    return blobs.get_key(keys[-1])
