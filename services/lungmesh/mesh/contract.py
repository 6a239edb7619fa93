"""The contract of a message, read from its proto options: its topic and its field rules.

The rules stand beside the fields in ``protos/``; they are checked once, at the edge of a service
(an event or a request coming in, an event going out).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from lungmesh.mesh.errors import BadInput
from lungmesh.v1 import options_pb2, study_pb2

LANES: tuple[str, ...] = ("stat", "routine", "backfill")

_LANE_OF_PRIORITY = {
    study_pb2.PRIORITY_STAT: "stat",
    study_pb2.PRIORITY_ROUTINE: "routine",
    study_pb2.PRIORITY_BACKFILL: "backfill",
}


def topic_of(kind: type[Message]) -> str:
    """Return the topic named in the message's options.

    Raises TypeError when the message is not an event.
    """
    topic: str = kind.DESCRIPTOR.GetOptions().Extensions[options_pb2.topic]
    if not topic:
        raise TypeError(f"{kind.DESCRIPTOR.name} has no topic: it is not an event")
    return topic


def lane_of(study: study_pb2.StudyRef) -> str:
    """Return the lane (stat, routine, backfill) of a study's events."""
    return _LANE_OF_PRIORITY.get(study.priority, "routine")


def validate(message: Message) -> None:
    """Check every field rule of a message and of the messages in it.

    Raises BadInput naming each offending field by its path, such as
    ``volume.geometry.spacing_mm[2] must be > 0 mm, is -1``.
    """
    problems = list(_problems(message, ""))
    if problems:
        name = message.DESCRIPTOR.name
        raise BadInput(f"{name}: " + "; ".join(problems), code="invalid_message")


@cache
def _ruled_fields(
    descriptor: Descriptor,
) -> tuple[tuple[FieldDescriptor, options_pb2.FieldRule], ...]:
    return tuple(
        (field, field.GetOptions().Extensions[options_pb2.rule]) for field in descriptor.fields
    )


def _problems(message: Message, prefix: str) -> Iterator[str]:
    for field, rule in _ruled_fields(message.DESCRIPTOR):
        path = prefix + field.name
        is_message = field.type == FieldDescriptor.TYPE_MESSAGE
        if field.is_repeated:
            items = list(getattr(message, field.name))
            if rule.required and not items:
                yield f"{path} is required"
            if rule.items and items and len(items) != rule.items:
                yield f"{path} must have {rule.items} items, has {len(items)}"
            for index, item in enumerate(items):
                where = f"{path}[{index}]"
                yield from _problems(item, f"{where}.") if is_message else _bad(item, rule, where)
            continue
        value = getattr(message, field.name)
        if is_message:
            if message.HasField(field.name):
                yield from _problems(value, f"{path}.")
            elif rule.required:
                yield f"{path} is required"
            continue
        if field.has_presence and not message.HasField(field.name):
            if rule.required:
                yield f"{path} is required"
            continue
        if rule.required and not field.has_presence and value == field.default_value:
            yield f"{path} is required"
            continue
        yield from _bad(value, rule, path)


def _bad(value: Any, rule: options_pb2.FieldRule, path: str) -> Iterator[str]:
    if isinstance(value, str):
        if rule.max_length and len(value) > rule.max_length:
            yield f"{path} is longer than {rule.max_length} characters"
        if rule.pattern and value and not re.fullmatch(rule.pattern, value):
            yield f"{path} must match {rule.pattern}"
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    unit = f" {rule.unit}" if rule.unit else ""
    if value != value:
        yield f"{path} is not a number"
        return
    for name, sign, holds in (
        ("gte", ">=", value >= rule.gte),
        ("gt", ">", value > rule.gt),
        ("lte", "<=", value <= rule.lte),
        ("lt", "<", value < rule.lt),
    ):
        if rule.HasField(name) and not holds:  # type: ignore[arg-type]
            yield f"{path} must be {sign} {getattr(rule, name):g}{unit}, is {value:g}"
