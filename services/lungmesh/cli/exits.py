"""How a command ends: one sentence and an exit status that a script can tell apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from lungmesh.mesh.errors import MeshError


class Exit(IntEnum):
    """Exit statuses of `lungmesh`; `lungmesh --help` lists them."""

    DONE = 0
    # Our bug: the traceback is shown.
    DEFECT = 1
    USAGE = 2
    # The folder cannot be used: nothing there, no DICOM, several studies.
    BAD_FOLDER = 3
    # Ingest took none of the instances.
    REFUSED = 4
    STAGE_FAILED = 5
    # The mesh did not start, or cannot be reached.
    NO_MESH = 6
    TIME_LIMIT = 7
    # The result is not as good as the command asks for.
    BELOW_STANDARD = 8
    # The report is made, but cannot be written here.
    OUTPUT = 9
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "done",
    Exit.DEFECT: "a bug of lungmesh",
    Exit.USAGE: "wrong arguments",
    Exit.BAD_FOLDER: "the folder holds no single DICOM study",
    Exit.REFUSED: "ingest took none of the instances",
    Exit.STAGE_FAILED: "a stage gave the study up",
    Exit.NO_MESH: "the mesh did not start or cannot be reached",
    Exit.TIME_LIMIT: "the time limit passed",
    Exit.BELOW_STANDARD: "the demo's result missed its limits",
    Exit.OUTPUT: "the output folder cannot be written",
    Exit.INTERRUPTED: "interrupted",
}


class CommandError(MeshError):
    """Ends a command with a sentence and an exit status."""

    def __init__(self, reason: str, exit_status: Exit) -> None:
        super().__init__(reason)
        self.exit_status = exit_status


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal of a file or folder into a sentence.

    Raises CommandError (OUTPUT).
    """
    try:
        yield
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written ({error.strerror}): make room, or choose another --out",
            Exit.OUTPUT,
        ) from error
