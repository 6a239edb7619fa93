"""The error tree: a caller tells by class, never by text, what to do about a failure."""

from __future__ import annotations

import traceback


class MeshError(Exception):
    """Base of every error the mesh raises on purpose; its text is one sentence for a person."""


class BadInput(MeshError):
    """The sender's data is wrong; never retried, kept with its reason.

    Parameters
    ----------
    reason
        A sentence that says what is wrong and what to do; without patient data.
    code
        A stable name such as ``missing_geometry``.
    """

    def __init__(self, reason: str, code: str = "bad_input") -> None:
        super().__init__(reason)
        self.code = code


class Unavailable(MeshError):
    """Something this stage needs (broker, Triton, store, peer) is away; retried."""


class Refused(MeshError):
    """A peer refused for good (our AE title or SOP class is not taken there); never retried."""


class SettingsError(MeshError):
    """A setting is missing or wrong; the service stops at start with this one line."""


def told(error: BaseException) -> str:
    """Return the stack of an error and of its causes, fit for logs and dead letters.

    The text of an error that is not of this tree may hold anything, a patient's name among it
    (pydicom quotes values, SQLAlchemy quotes parameters): only its class is told.
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = "" if cause is None else f"{told(cause)}\n"
    frames = "".join(traceback.format_tb(error.__traceback__))
    text = f": {error}" if isinstance(error, MeshError) else ""
    return f"{before}{frames}{type(error).__name__}{text}"
