"""When a study is complete: a state machine that is told what happens and when.

It has no clock and no timer of its own. Times are seconds of one clock that never runs back; the
caller asks `decide` at the time that `due` names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum

from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext

# A gateway may open an association an object.
_MOST_SENDERS = 32


class Decision(Enum):
    """What is to be done with a study now."""

    CLOSE_QUIET = "quiet period"
    CLOSE_RELEASE = "association release"
    EXPIRE = "expiry"


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds.

    Attributes
    ----------
    quiet
        After the last instance, when no association that sent to the study is open.
    grace
        After the release of the last such association; None: a release completes nothing.
    hold
        After the last instance, when such an association stays open without sending to the study.
    expiry
        After the last object, when nothing of the study is usable.
    """

    quiet: float
    grace: float | None
    hold: float
    expiry: float


@dataclass
class Assembly:
    """One study on its way to being complete, from the first object since it was last closed.

    Attributes
    ----------
    usable, companions
        New CT images, and other kept objects.
    refused
        Refused objects by code.
    first_at, last_at
        When the first and the last object came.
    senders
        Traces of the associations and requests that brought new instances, the first one first.
    """

    patience: Patience
    first_at: float
    last_at: float = 0.0
    usable: int = 0
    companions: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    senders: list[SpanContext] = field(default_factory=list)
    _sending: set[Hashable] = field(default_factory=set)
    _released_at: float | None = None

    def __post_init__(self) -> None:
        self.last_at = max(self.last_at, self.first_at)

    def arrived(
        self,
        at: float,
        connection: Hashable | None,
        usable: bool,
        sender: SpanContext = INVALID_SPAN_CONTEXT,
    ) -> None:
        """Count a new instance."""
        self.touched(at, connection)
        if sender.is_valid and sender not in self.senders and len(self.senders) < _MOST_SENDERS:
            self.senders.append(sender)
        if usable:
            self.usable += 1
        else:
            self.companions += 1

    def rejected(self, at: float, connection: Hashable | None, code: str) -> None:
        """Count a refused object."""
        self.touched(at, connection)
        self.refused[code] += 1

    def touched(self, at: float, connection: Hashable | None) -> None:
        """Start every wait afresh: something of the study came, if only a repeat."""
        self.last_at = max(self.last_at, at)
        self._released_at = None
        if connection is not None:
            self._sending.add(connection)

    def ended(self, at: float, connection: Hashable, released: bool) -> None:
        """Note that an association ended.

        Only a release says that the sender has sent what it wanted to; after an abort or a broken
        connection it may come back, so the quiet period decides.
        """
        if connection not in self._sending:
            return
        self._sending.discard(connection)
        if released and not self._sending and self.patience.grace is not None:
            self._released_at = max(at, self.last_at)

    @property
    def due(self) -> float:
        """When `decide` will have an answer if nothing more happens."""
        return self._next()[0]

    def decide(self, now: float) -> Decision | None:
        """Return what is to be done, None while the study waits."""
        due, decision = self._next()
        return decision if now >= due else None

    def _next(self) -> tuple[float, Decision]:
        if not self.usable:
            return self.last_at + self.patience.expiry, Decision.EXPIRE
        if self._sending:
            return self.last_at + self.patience.hold, Decision.CLOSE_QUIET
        if self._released_at is not None and self.patience.grace is not None:
            return self._released_at + self.patience.grace, Decision.CLOSE_RELEASE
        return self.last_at + self.patience.quiet, Decision.CLOSE_QUIET

    def waits_for(self) -> str:
        """Say in words what the study waits for."""
        if not self.usable:
            return f"a usable CT image, for at most {self.patience.expiry:g} s"
        if self._sending:
            return "the end of the association that sends it"
        if self._released_at is not None:
            return "an explicit close, for a moment"
        return f"a quiet period of {self.patience.quiet:g} s"

    def story(self) -> str:
        """Say in words what has come."""
        parts = [f"{self.usable} new CT image{'s' * (self.usable != 1)}"]
        if self.companions:
            parts.append(f"{self.companions} other object{'s' * (self.companions != 1)}")
        if self.refused:
            codes = ", ".join(f"{code} {count}" for code, count in sorted(self.refused.items()))
            parts.append(f"{sum(self.refused.values())} refused ({codes})")
        return ", ".join(parts)
