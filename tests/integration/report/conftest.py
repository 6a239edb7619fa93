"""One exam read from the demo CT, and real DICOM peers."""

from __future__ import annotations

import pytest

from lungmesh.demo.case import CaseMissing
from tests.support.pacs import orthanc, running_scp, scp
from tests.support.report import Case, read_case

__all__ = ["orthanc", "running_scp", "scp"]


@pytest.fixture(scope="session")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The demo CT, every second slice, read by the real preprocess stage."""
    try:
        return read_case(tmp_path_factory.mktemp("ct"))
    except CaseMissing as error:
        pytest.skip(str(error))
