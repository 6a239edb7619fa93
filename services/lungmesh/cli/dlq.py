"""`lungmesh dlq …`: dead letters of a running mesh."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from lungmesh.cli.show import Show
from lungmesh.cli.up import the_running_mesh
from lungmesh.mesh.deadletter import DeadLetter, list_dead_letters, replay, show_dead_letter
from lungmesh.mesh.settings import KafkaSettings


def list_letters(data: Path, stage: str | None, show: Show) -> None:
    """Print a row a dead letter, oldest first."""
    letters = list_dead_letters(_kafka(data), stage)
    if not letters:
        show.note("no dead letters")
        return
    table = Table()
    rows = []
    for name in ("time", "stage", "kind", "event", "replayed", "reason"):
        # An id must be whole, so that `dlq show` can be given it.
        table.add_column(name, no_wrap=name == "event", min_width=36 if name == "event" else None)
    for letter in letters:
        rows.append(_facts(letter))
        table.add_row(
            letter.time[:19].replace("T", " "),
            letter.stage,
            letter.kind,
            letter.event_id,
            "yes" if letter.replayed else "no",
            letter.reason,
        )
    show.table(table, "dead_letters", rows)


def show_letter(data: Path, event_id: str, show: Show) -> None:
    """Print everything that is known of a dead letter."""
    letter = show_dead_letter(_kafka(data), event_id)
    facts = {
        **_facts(letter),
        "error_class": letter.error_class,
        "original": letter.original,
        "behind": letter.behind,
        "message": letter.text(),
        "stack": letter.stack,
    }
    show.note("\n".join(f"{name}: {value}" for name, value in facts.items()), **facts)


def replay_letters(data: Path, stage: str, event_ids: list[str] | None, show: Show) -> None:
    """Send dead letters back to the topics they came from."""
    count = replay(_kafka(data), stage, event_ids)
    show.note(f"{count} replayed", count=count)


def _kafka(data: Path) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap": the_running_mesh(data).kafka})


def _facts(letter: DeadLetter) -> dict[str, object]:
    return {
        "time": letter.time,
        "stage": letter.stage,
        "kind": letter.kind,
        "event_id": letter.event_id,
        "type": letter.type,
        "tenant": letter.tenant,
        "replayed": letter.replayed,
        "reason": letter.reason,
    }
