"""The commands of follow-up and their options; what they do stands in the modules beside this."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lungmesh.cli.options import AsJson, Data
from lungmesh.cli.show import choose_show
from lungmesh.embedded.layout import DEFAULT_DATA
from lungmesh.embedded.state import TENANT

Tenant = Annotated[str, typer.Option(help="The hospital or programme.")]
Patient = Annotated[str, typer.Argument(help="Pseudonym of the patient (summary.json, due).")]
Nodule = Annotated[
    str,
    typer.Argument(
        help="EXAM/NUMBER, such as 2026-11-24/3: the exam by its date or study id, the nodule by "
        "its number there."
    ),
]
Other = Annotated[str, typer.Argument(help="The nodule of another exam, EXAM/NUMBER.")]
Author = Annotated[str, typer.Option(help="Login of the radiologist who says it; never a name.")]
Millimetres = Annotated[float | None, typer.Option(min=0.1, max=300, help="mm.")]

correct_app = typer.Typer(
    no_args_is_help=True,
    help="A radiologist's word on a nodule: it wins over the mesh, and the patient's timeline is "
    "computed again.",
)


def register(app: typer.Typer) -> None:
    """Add the commands that stand beside `correct`."""
    for command in (due, timeline, registry, response):
        app.command()(command)


def due(
    tenant: Tenant = TENANT,
    today: Annotated[
        str | None, typer.Option(help="YYYY-MM-DD; the machine's date when left out.")
    ] = None,
    state: Annotated[
        Literal["not-due", "due", "overdue", "lost"] | None,
        typer.Option(help="Only these; due, overdue and lost when left out."),
    ] = None,
    category: Annotated[str, typer.Option(help="Only this category, such as 4A.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """List the exams that are due, the longest overdue first."""
    from lungmesh.cli.programme import list_due

    list_due(data, tenant, today, state, category, limit, choose_show(as_json))


def timeline(
    patient: Patient, tenant: Tenant = TENANT, data: Data = DEFAULT_DATA, as_json: AsJson = False
) -> None:
    """Show a patient's nodules through all exams, the corrections, and what comes next."""
    from lungmesh.cli.timeline import timeline_of

    timeline_of(data, tenant, patient, choose_show(as_json))


def registry(
    out: Annotated[Path, typer.Option(help="The file.")],
    form: Annotated[
        Literal["csv", "fhir"], typer.Option("--format", help="csv, or fhir as NDJSON.")
    ] = "csv",
    first: Annotated[
        str | None, typer.Option("--from", help="First study date, YYYY-MM-DD; all when left out.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="Last study date; today when left out.")
    ] = None,
    tenant: Tenant = TENANT,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Write a programme's exams for a registry such as ACR's LCSR."""
    from lungmesh.cli.programme import export_registry

    export_registry(data, tenant, form, first, last, out, choose_show(as_json))


def response(
    patient: Patient,
    baseline: Annotated[
        str, typer.Option(help="Study id of the exam before treatment; the first when left out.")
    ] = "",
    tenant: Tenant = TENANT,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show the response to treatment by RECIST 1.1 and iRECIST, and by volume."""
    from lungmesh.cli.programme import show_response

    show_response(data, tenant, patient, baseline, choose_show(as_json))


def _on_a_nodule(kind: str, meaning: str) -> None:
    """Add a command that says nothing but which nodule it means."""

    @correct_app.command(kind, help=meaning)
    def command(
        patient: Patient,
        nodule: Nodule,
        author: Author,
        tenant: Tenant = TENANT,
        data: Data = DEFAULT_DATA,
        as_json: AsJson = False,
    ) -> None:
        from lungmesh.cli.correct import Said, plain

        said = Said(tenant, patient, author)
        plain(data, said, kind, nodule, "", choose_show(as_json))


def _on_two_nodules(kind: str, meaning: str) -> None:
    """Add a command that says nothing but which two nodules it means."""

    @correct_app.command(kind, help=meaning)
    def command(
        patient: Patient,
        nodule: Nodule,
        other: Other,
        author: Author,
        tenant: Tenant = TENANT,
        data: Data = DEFAULT_DATA,
        as_json: AsJson = False,
    ) -> None:
        from lungmesh.cli.correct import Said, plain

        said = Said(tenant, patient, author)
        plain(data, said, kind, nodule, other, choose_show(as_json))


_on_a_nodule("confirm", "The finding is a nodule.")
_on_a_nodule("reject", "The finding is no nodule: it takes part in no result.")


@correct_app.command()
def remeasure(
    patient: Patient,
    nodule: Nodule,
    author: Author,
    long_axis: Millimetres = None,
    short_axis: Millimetres = None,
    volume: Annotated[float | None, typer.Option(min=0.1, max=2_000_000, help="mm³.")] = None,
    solid_diameter: Annotated[
        float | None, typer.Option(min=0, max=300, help="Mean diameter of the solid part, mm.")
    ] = None,
    tenant: Tenant = TENANT,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """The nodule has these sizes; what is left out stays as the mesh measured it."""
    from lungmesh.cli.correct import Said, measured

    said = Said(tenant, patient, author)
    sizes = (long_axis, short_axis, volume, solid_diameter)
    measured(data, said, nodule, sizes, choose_show(as_json))


@correct_app.command()
def retype(
    patient: Patient,
    nodule: Nodule,
    kind: Annotated[str, typer.Argument(help="Such as solid, part-solid, non-solid, calcified.")],
    author: Author,
    tenant: Tenant = TENANT,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """The nodule is of this type."""
    from lungmesh.cli.correct import Said, typed

    said = Said(tenant, patient, author)
    typed(data, said, nodule, kind, choose_show(as_json))


_on_two_nodules("link", "Two nodules of two exams are the same.")
_on_two_nodules("unlink", "Two nodules of two exams are not the same.")


@correct_app.command()
def withdraw(
    patient: Patient,
    correction: Annotated[str, typer.Argument(help="Id of the correction; see timeline.")],
    author: Author,
    tenant: Tenant = TENANT,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """An earlier correction no longer counts; it stays in the record."""
    from lungmesh.cli.correct import Said
    from lungmesh.cli.correct import withdraw as take_back

    take_back(data, Said(tenant, patient, author), correction, choose_show(as_json))
