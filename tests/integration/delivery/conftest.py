"""Real DICOM peers."""

from __future__ import annotations

from tests.support.pacs import orthanc, running_scp, scp

__all__ = ["orthanc", "running_scp", "scp"]
