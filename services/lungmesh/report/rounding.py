"""Rounding to what a report states."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message


def rounded(value: float, digits: int) -> float:
    """Return the value, never as a negative zero, which would print as -0.0."""
    return round(value, digits) + 0.0


def optional(message: Message, field: str, digits: int) -> float | None:
    """Return a field that may be unset; None where it is."""
    return rounded(getattr(message, field), digits) if message.HasField(field) else None


def each(values: Iterable[float]) -> tuple[float, ...]:
    """Return lengths and positions to 0.1."""
    return tuple(rounded(value, 1) for value in values)
