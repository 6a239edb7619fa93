"""Which versions read a study: those in service, a canary for some, a shadow beside them."""

from __future__ import annotations

import hashlib

from lungmesh.detection.find import Lineup
from lungmesh.detection.settings import DetectionSettings
from lungmesh.detection.triton import Wanted


def in_service(settings: DetectionSettings) -> Lineup:
    """Return the networks that read studies."""
    return Lineup(
        detector=Wanted(settings.network, settings.network_version),
        reducer=Wanted(settings.reducer, settings.reducer_version),
        segmenter=Wanted(settings.segmenter, settings.segmenter_version),
    )


def with_versions(lineup: Lineup, versions: str) -> Lineup:
    """Return a line-up in other versions.

    Parameters
    ----------
    versions
        The detector's, or detector's/reducer's/segmenter's.
    """
    detector, *others = versions.split("/")
    reducer, segmenter = others or (lineup.reducer.version, lineup.segmenter.version)
    return Lineup(
        detector=Wanted(lineup.detector.name, detector),
        reducer=Wanted(lineup.reducer.name, reducer),
        segmenter=Wanted(lineup.segmenter.name, segmenter),
    )


def read_by_canary(study_id: str, share: float) -> bool:
    """Return whether the canary reads a study: the same answer at every call, on every machine."""
    number = int.from_bytes(hashlib.sha256(study_id.encode()).digest()[:8], "big")
    return number < share * 2**64


def label(lineup: Lineup) -> str:
    """Return a line-up's versions as one word, such as 2-1-1."""
    return "-".join(one.version for one in lineup.networks)
