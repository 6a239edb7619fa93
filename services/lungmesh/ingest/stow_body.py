"""The body of a STOW-RS request: each part straight into the spool, then to the core."""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from lungmesh.ingest.intake import Answer, Intake
from lungmesh.ingest.spool import Part
from lungmesh.mesh.errors import MeshError

_DICOM = "application/dicom"


class BadBody(MeshError):
    """The request is not what its Content-Type says; `status` is the HTTP status."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


class TooLarge(MeshError):
    """The request is larger than the limit."""


class ObjectReader:
    """Takes the objects of one request in; its methods block.

    Attributes
    ----------
    answers
        One an object, in the order of the parts.
    """

    def __init__(self, intake: Intake, tenant: str, study: str) -> None:
        self._intake, self._tenant, self._study = intake, tenant, study
        self.answers: list[Answer] = []
        self._part: Part | None = None
        self._name = b""
        self._value = b""
        self._headers = Message()
        self._ended = False

    def parser(self, boundary: str) -> MultipartParser:
        """Return a parser that feeds this reader.

        Raises BadBody when the boundary is none.
        """
        if not boundary:
            raise BadBody("Content-Type names no boundary.")
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._name_goes_on,
            "on_header_value": self._value_goes_on,
            "on_header_end": self._header_ends,
            "on_headers_finished": self.object_begins,
            "on_part_data": self._data,
            "on_part_end": self.object_ends,
            "on_end": self._end,
        }
        return MultipartParser(boundary.encode(), callbacks)  # type: ignore[arg-type]

    def feed(self, body: Body, piece: bytes) -> None:
        """Take a piece of the body.

        Raises BadBody, or StorageFull when the disk is full.
        """
        try:
            body.write(piece)
        except MultipartParseError as error:
            raise BadBody("The body is no multipart/related with this boundary.") from error

    def finish(self, body: Body) -> None:
        """Say that the body has ended.

        Raises BadBody when it ended too early.
        """
        if isinstance(body, OneObject):
            body.end()
        elif not self._ended:
            raise BadBody("The body ends before its closing boundary: send it again.")

    def close(self) -> None:
        """Drop a part that did not end."""
        if self._part is not None:
            self._part.abandon()
            self._part = None
        # A request says nothing of what its sender will send next.
        self._intake.ended(self, released=False)

    def object_begins(self) -> None:
        """Begin an object in the spool."""
        kind = self._headers.get_content_type() if "content-type" in self._headers else _DICOM
        if kind != _DICOM:
            raise BadBody(f"A part is {kind}: only {_DICOM} is taken.", status=415)
        try:
            self._part = self._intake.spool.begin(self._tenant)
        except OSError as error:
            self._no_room(error)

    def data(self, data: bytes) -> None:
        """Append to the object."""
        if self._part is None:
            return
        try:
            self._part.write(data)
        except OSError as error:
            self._no_room(error)

    def object_ends(self) -> None:
        """Hand the whole object to the core, which answers; a bad one leaves the rest alone."""
        part, self._part = self._part, None
        if part is None:
            return
        try:
            file = part.finish()
        except OSError as error:
            self._part = part
            self._no_room(error)
            return
        answer = self._intake.receive(file, file.read(), self, "stow", self._study)
        self.answers.append(answer)

    def _no_room(self, error: OSError) -> None:
        """Answer for an object that the disk did not take; the rest of its part is skipped."""
        if self._part is not None:
            self._part.abandon()
            self._part = None
        self.answers.append(self._intake.no_room(error, self._tenant, "stow"))

    def _part_begins(self) -> None:
        self._headers = Message()

    def _name_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _value_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._name.decode("latin-1")] = self._value.decode("latin-1")
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.data(data[start:end])

    def _end(self) -> None:
        self._ended = True


class OneObject:
    """A body that is one object, without parts."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self._begun = False

    def write(self, piece: bytes) -> None:
        """Append."""
        if not self._begun:
            self._begun = True
            self._reader.object_begins()
        self._reader.data(piece)

    def end(self) -> None:
        """Finish the object."""
        if self._begun:
            self._reader.object_ends()


Body = OneObject | MultipartParser
