"""When a study is complete: rules one by one, then any order of events."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from lungmesh.ingest.assembly import Assembly, Decision, Patience

PATIENCE = Patience(quiet=30, grace=2, hold=600, expiry=900)


def begun(at: float = 0, connection: str | None = None) -> Assembly:
    """Return an assembly with one CT image."""
    assembly = Assembly(PATIENCE, first_at=at)
    assembly.arrived(at, connection, usable=True)
    return assembly


def test_a_study_without_association_is_complete_after_the_quiet_period() -> None:
    assembly = begun(at=100)
    assert assembly.due == 130
    assert assembly.decide(129.9) is None
    assert assembly.decide(130) is Decision.CLOSE_QUIET


def test_every_instance_starts_the_quiet_period_afresh() -> None:
    assembly = begun()
    assembly.arrived(29, None, usable=True)
    assert assembly.decide(58.9) is None
    assert assembly.decide(59) is Decision.CLOSE_QUIET


def test_a_repeat_starts_the_quiet_period_afresh() -> None:
    assembly = begun()
    assembly.touched(29, None)
    assert assembly.decide(58.9) is None


def test_no_quiet_period_ends_a_study_whose_association_is_open() -> None:
    assembly = begun(connection="a")
    assert assembly.decide(599) is None


def test_an_association_that_stays_open_without_sending_holds_a_study_only_so_long() -> None:
    assembly = begun(connection="a")
    assert assembly.decide(600) is Decision.CLOSE_QUIET


def test_the_release_completes_a_study_after_the_grace() -> None:
    assembly = begun(connection="a")
    assembly.ended(10, "a", released=True)
    assert assembly.decide(11.9) is None
    assert assembly.decide(12) is Decision.CLOSE_RELEASE


def test_the_last_of_several_associations_decides() -> None:
    assembly = begun(connection="a")
    assembly.arrived(1, "b", usable=True)
    assembly.ended(2, "a", released=True)
    assert assembly.decide(500) is None
    assembly.ended(500, "b", released=True)
    assert assembly.decide(502) is Decision.CLOSE_RELEASE


def test_an_abort_is_no_release_so_that_the_sender_can_come_back() -> None:
    assembly = begun(connection="a")
    assembly.ended(5, "a", released=False)
    assert assembly.decide(29.9) is None
    assert assembly.decide(30) is Decision.CLOSE_QUIET


def test_an_instance_by_another_way_within_the_grace_revokes_the_release() -> None:
    assembly = begun(connection="a")
    assembly.ended(10, "a", released=True)
    assembly.arrived(11, "b", usable=True)
    assert assembly.decide(100) is None
    assembly.ended(100, "b", released=True)
    assert assembly.decide(102) is Decision.CLOSE_RELEASE


def test_the_release_of_an_association_that_sent_something_else_changes_nothing() -> None:
    assembly = begun(connection="a")
    assembly.ended(3, "other", released=True)
    assert assembly.decide(100) is None


def test_where_a_release_completes_nothing_the_quiet_period_does() -> None:
    assembly = Assembly(Patience(quiet=30, grace=None, hold=600, expiry=900), first_at=0)
    assembly.arrived(0, "a", usable=True)
    assembly.ended(1, "a", released=True)
    assert assembly.decide(29) is None
    assert assembly.decide(30) is Decision.CLOSE_QUIET


def test_a_study_without_any_usable_image_expires_and_says_what_came() -> None:
    assembly = Assembly(PATIENCE, first_at=0)
    assembly.rejected(0, "a", "missing_geometry")
    assembly.rejected(1, "a", "missing_geometry")
    assembly.arrived(2, "a", usable=False)
    assembly.ended(3, "a", released=True)
    assert assembly.decide(901.9) is None
    assert assembly.decide(902) is Decision.EXPIRE
    story = assembly.story()
    assert story == "0 new CT images, 1 other object, 2 refused (missing_geometry 2)"


def test_one_usable_image_after_refused_ones_makes_a_study() -> None:
    assembly = Assembly(PATIENCE, first_at=0)
    assembly.rejected(0, "a", "truncated")
    assembly.arrived(1, "a", usable=True)
    assembly.ended(2, "a", released=True)
    assert assembly.decide(4) is Decision.CLOSE_RELEASE


def test_it_says_in_words_what_it_waits_for() -> None:
    assembly = begun(connection="a")
    assert "the end of the association" in assembly.waits_for()
    assembly.ended(1, "a", released=True)
    assert "explicit close" in assembly.waits_for()
    assert "30 s" in begun().waits_for()
    assert "usable" in Assembly(PATIENCE, first_at=0).waits_for()


@dataclass
class Run:
    """A driver as the keeper is one: it tells events, and asks whenever something is due."""

    assembly: Assembly | None = None
    seen: set[int] = field(default_factory=set)
    closed: list[frozenset[int]] = field(default_factory=list)
    pending: set[int] = field(default_factory=set)

    def tick(self, now: float) -> None:
        if self.assembly is None or self.assembly.decide(now) is None:
            return
        self.closed.append(frozenset(self.pending))
        self.assembly, self.pending = None, set()

    def send(self, now: float, connection: str | None, number: int) -> None:
        if number in self.seen:
            if self.assembly is not None:
                self.assembly.touched(now, connection)
            return
        self.seen.add(number)
        self.pending.add(number)
        if self.assembly is None:
            self.assembly = Assembly(PATIENCE, first_at=now)
        self.assembly.arrived(now, connection, usable=True)

    def end(self, now: float, connection: str, released: bool) -> None:
        if self.assembly is not None:
            self.assembly.ended(now, connection, released)


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Instances 0 … n-1, some twice, in any order, over up to three associations."""
    count = draw(st.integers(1, 12))
    numbers = list(range(count)) + draw(st.lists(st.integers(0, count - 1), max_size=6))
    order = draw(st.permutations(numbers))
    return [(draw(st.sampled_from(["a", "b", "c"])), number) for number in order]


@settings(deadline=None, max_examples=200)
@given(
    deliveries(),
    st.lists(st.floats(0, 500), min_size=20, max_size=20),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_in_any_order_with_any_pauses_open_associations_give_one_study_with_every_instance(
    sent: list[tuple[str, int]], pauses: list[float], released: list[bool]
) -> None:
    run, now = Run(), 0.0
    for (connection, number), pause in zip(sent, pauses, strict=False):
        run.send(now, connection, number)
        # Timers fire as often as they like while slices still arrive.
        for step in range(10):
            run.tick(now + pause * step / 10)
        now += pause
        run.tick(now)
    for connection, cleanly in zip("abc", released, strict=True):
        run.end(now, connection, cleanly)
        run.tick(now)
    run.tick(now + PATIENCE.quiet + PATIENCE.hold)
    assert run.closed == [frozenset(number for _, number in sent)]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "release", "abort"]),
            st.sampled_from(["a", "b", None]),
            st.integers(0, 8),
            st.floats(0, 1000),
        ),
        max_size=40,
    )
)
def test_whatever_happens_no_instance_is_lost_and_nothing_waits_for_ever(
    events: list[tuple[str, str | None, int, float]],
) -> None:
    run, now = Run(), 0.0
    for what, connection, number, pause in events:
        if what == "send":
            run.send(now, connection, number)
        elif connection is not None:
            run.end(now, connection, what == "release")
        if run.assembly is not None:
            # Never further away than the longest wait that is set.
            assert run.assembly.due <= now + max(PATIENCE.hold, PATIENCE.expiry)
        now += pause
        run.tick(now)
    run.tick(now + PATIENCE.hold)
    assert run.assembly is None
    together = [number for revision in run.closed for number in revision]
    assert sorted(together) == sorted(run.seen)
