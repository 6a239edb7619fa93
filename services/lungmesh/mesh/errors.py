"""The error tree: a caller tells by class, never by text, what to do about a failure."""

from __future__ import annotations


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
