"""The contract of a message, read from its proto options: its topic and its field rules.

The rules stand beside the fields in ``protos/``; they are checked once, at the edge of a service
(an event or a request coming in, an event going out).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from lungmesh.mesh.errors import BadInput
from lungmesh.v1 import options_pb2, study_pb2

LANES: tuple[str, ...] = ("stat", "routine", "backfill")

_Check = Callable[[Any, str], Iterator[str]]
_Compare = Callable[[Any, Any], bool]
_COMPARISONS: tuple[tuple[str, str, _Compare], ...] = (
    ("gte", ">=", operator.ge),
    ("gt", ">", operator.gt),
    ("lte", "<=", operator.le),
    ("lt", "<", operator.lt),
)

_LANE_OF_PRIORITY = {
    study_pb2.PRIORITY_STAT: "stat",
    study_pb2.PRIORITY_ROUTINE: "routine",
    study_pb2.PRIORITY_BACKFILL: "backfill",
}


@cache
def name_of(kind: EnumDescriptor, number: int) -> str:
    """Return the name of an enumeration's value outside of protobuf, such as `part_solid`.

    Raises KeyError for a number that the enumeration has not.
    """
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return kind.values_by_number[number].name.removeprefix(prefix).lower()


def topic_of(kind: type[Message]) -> str:
    """Return the topic named in the message's options.

    Raises TypeError when the message is not an event.
    """
    topic = _topic(kind.DESCRIPTOR)
    if not topic:
        raise TypeError(f"{kind.DESCRIPTOR.name} has no topic: it is not an event")
    return topic


@cache
def _topic(descriptor: Descriptor) -> str:
    topic: str = descriptor.GetOptions().Extensions[options_pb2.topic]
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


@dataclass(frozen=True)
class _Ruled:
    """A field that has a rule, or messages that may have some: read from the descriptor once."""

    name: str
    repeated: bool
    message: bool
    presence: bool
    default: Any
    required: bool
    items: int
    check: _Check | None


@cache
def _ruled_fields(descriptor: Descriptor) -> tuple[_Ruled, ...]:
    found = []
    for field in descriptor.fields:
        rule = field.GetOptions().Extensions[options_pb2.rule]
        message = field.type == FieldDescriptor.TYPE_MESSAGE
        ruled = _Ruled(
            name=field.name,
            repeated=field.is_repeated,
            message=message,
            presence=field.has_presence,
            default=None if message or field.is_repeated else field.default_value,
            required=rule.required,
            items=rule.items,
            check=None if message else _checker(field, rule),
        )
        if message or ruled.required or ruled.items or ruled.check is not None:
            found.append(ruled)
    return tuple(found)


def _problems(message: Message, prefix: str) -> Iterator[str]:
    for field in _ruled_fields(message.DESCRIPTOR):
        path = prefix + field.name
        if field.repeated:
            items = getattr(message, field.name)
            if field.required and not items:
                yield f"{path} is required"
            if field.items and items and len(items) != field.items:
                yield f"{path} must have {field.items} items, has {len(items)}"
            for index, item in enumerate(items):
                where = f"{path}[{index}]"
                if field.message:
                    yield from _problems(item, f"{where}.")
                elif field.check is not None:
                    yield from field.check(item, where)
            continue
        if field.presence and not message.HasField(field.name):
            if field.required:
                yield f"{path} is required"
            continue
        value = getattr(message, field.name)
        if field.message:
            yield from _problems(value, f"{path}.")
        elif field.required and not field.presence and value == field.default:
            yield f"{path} is required"
        elif field.check is not None:
            yield from field.check(value, path)


def _checker(field: FieldDescriptor, rule: options_pb2.FieldRule) -> _Check | None:
    """Return the check of a single value, None when nothing is asked of it."""
    if field.type == FieldDescriptor.TYPE_STRING and (rule.pattern or rule.max_length):
        return _text_check(rule)
    bounds = tuple(
        (sign, holds, getattr(rule, name))
        for name, sign, holds in _COMPARISONS
        if rule.HasField(name)  # type: ignore[arg-type]
    )
    real = field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
    return _number_check(bounds, f" {rule.unit}" if rule.unit else "") if bounds or real else None


def _text_check(rule: options_pb2.FieldRule) -> _Check:
    pattern = re.compile(rule.pattern)
    longest = rule.max_length

    def check(value: Any, path: str) -> Iterator[str]:
        if longest and len(value) > longest:
            yield f"{path} is longer than {longest} characters"
        if pattern.pattern and value and not pattern.fullmatch(value):
            yield f"{path} must match {pattern.pattern}"

    return check


def _number_check(bounds: Sequence[tuple[str, _Compare, float]], unit: str) -> _Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if value != value:
            yield f"{path} is not a number"
            return
        for sign, holds, bound in bounds:
            if not holds(value, bound):
                yield f"{path} must be {sign} {bound:g}{unit}, is {value:g}"

    return check
