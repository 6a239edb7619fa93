"""What a reconstruction kernel is good for, from the name its maker gives it."""

from __future__ import annotations

import re
from enum import StrEnum


class KernelKind(StrEnum):
    """Sharp kernels show the lung parenchyma; soft ones suit size and density."""

    LUNG = "lung"
    SOFT = "soft"
    OTHER = "other"
    UNKNOWN = "unknown"


# Name patterns as the makers' DICOM conformance statements and the kernel lists of public CT
# collections show them: GE words, Siemens B/I/Br/Bl + number, Philips letters, Canon FC + number.
_WORDS = {
    KernelKind.LUNG: {"LUNG", "BONE", "BONEPLUS", "BONE+", "EDGE", "DETAIL", "ULTRA"}
    | {"L", "D", "E", "YA", "YB", "YC", "YD"},
    KernelKind.SOFT: {"STANDARD", "SOFT", "STND", "CHST", "CHEST", "BODY", "A", "B", "C"},
}
_SIEMENS_BODY = re.compile(r"(?:B|I|BR|BV|BL|BF|BM|BP|D)(\d{2})[A-Z]?")
_SIEMENS_HEAD = re.compile(r"(?:H|J|HR|HV|HC|HF|HP)(\d{2})[A-Z]?")
_CANON = re.compile(r"FC(\d{2})[A-Z]?")
# At this number Siemens' sharp kernels begin.
_SIEMENS_SHARP = 50
# Canon: FC01-FC19 body, FC20-FC29 and FC60-FC69 head, FC30-FC59 bone, ear and lung, FC80+ lung.
_CANON_HEAD = (range(20, 30), range(60, 70))


def kernel_kind(name: str) -> KernelKind:
    """Return what a ConvolutionKernel (0018,1210) is good for; UNKNOWN when nothing is known."""
    for part in name.upper().replace("\\", " ").replace("/", " ").split():
        for kind, words in _WORDS.items():
            if part in words:
                return kind
        if found := _SIEMENS_BODY.fullmatch(part):
            return KernelKind.LUNG if int(found[1]) >= _SIEMENS_SHARP else KernelKind.SOFT
        if _SIEMENS_HEAD.fullmatch(part):
            return KernelKind.OTHER
        if found := _CANON.fullmatch(part):
            number = int(found[1])
            if any(number in span for span in _CANON_HEAD):
                return KernelKind.OTHER
            return KernelKind.LUNG if number >= 30 else KernelKind.SOFT
    return KernelKind.UNKNOWN
