"""The commands and their options; what they do stands in the modules beside this one."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer

from lungmesh.cli.app_followup import Tenant, correct_app
from lungmesh.cli.app_followup import register as register_followup
from lungmesh.cli.exits import MEANINGS, CommandError, Exit
from lungmesh.cli.options import AsJson, Data
from lungmesh.cli.show import choose_show
from lungmesh.embedded.layout import DEFAULT_DATA
from lungmesh.embedded.state import TENANT
from lungmesh.mesh.errors import BadInput, MeshError

_EXITS = "; ".join(f"{status.value} {meaning}" for status, meaning in MEANINGS.items())

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=f"Reads chest CT for lung nodules. Exit statuses: {_EXITS}.",
)
dlq_app = typer.Typer(no_args_is_help=True, help="Events that a stage gave up, and the way back.")
deliveries_app = typer.Typer(
    no_args_is_help=True,
    help="Reports on their way to PACS, EHR and RIS, and dead letters of these.",
)
models_app = typer.Typer(no_args_is_help=True, help="The networks that Triton serves.")
app.add_typer(dlq_app, name="dlq")
app.add_typer(deliveries_app, name="deliveries")
app.add_typer(models_app, name="models")
app.add_typer(correct_app, name="correct")

Limit = Annotated[float, typer.Option(help="Longest time for one study, in seconds.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lungmesh {importlib.metadata.version('lungmesh')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    # No docstring: it would replace the help text of the app.
    pass


@app.command()
def up(
    data: Data = DEFAULT_DATA,
    dicom_port: Annotated[
        int | None, typer.Option(help="Port of the DICOM listener; a free one when left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start the whole mesh on this machine and run it until Ctrl-C."""
    from lungmesh.cli.up import run_until_told

    run_until_told(data, dicom_port, choose_show(as_json))


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="Folder with one CT study.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    prior: Annotated[
        list[Path] | None, typer.Option(help="Folder with an earlier study; may be repeated.")
    ] = None,
    clinical: Annotated[
        Path | None, typer.Option(help="JSON file with a ClinicalContext (protos, study.proto).")
    ] = None,
    age: Annotated[float | None, typer.Option(min=0, max=130, help="Years.")] = None,
    sex: Annotated[str | None, typer.Option(help="female, male or other.")] = None,
    smoker: Annotated[
        bool | None, typer.Option("--smoker/--never-smoker", help="Ever smoked, or never.")
    ] = None,
    priority: Annotated[str, typer.Option(help="stat, routine or backfill.")] = "routine",
    data: Data = DEFAULT_DATA,
    limit: Limit = 900.0,
    as_json: AsJson = False,
) -> None:
    """Read one study: send it over DICOM, follow it, fetch its report."""
    from lungmesh.cli.clinical import priority_of, read_clinical
    from lungmesh.cli.job import Job, run_job
    from lungmesh.cli.results import show_results

    show = choose_show(as_json)
    job = Job(
        study=study,
        out=out,
        data=data,
        priors=prior or (),
        clinical=read_clinical(clinical, age, sex, smoker),
        priority=priority_of(priority),
        limit_seconds=limit,
    )
    with run_job(job, show) as result:
        show_results(result, out, show)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("out/demo"),
    data: Annotated[
        Path | None, typer.Option(help="Data directory; a fresh one when left out.")
    ] = None,
    limit: Limit = 900.0,
    as_json: AsJson = False,
) -> None:
    """Read LIDC-IDRI-0001, a real CT, and compare the result with what four readers found."""
    from lungmesh.cli.demo import run_demo

    run_demo(out, data, limit, choose_show(as_json))


@app.command()
def send(
    folder: Annotated[Path, typer.Argument(help="Folder with one DICOM study.")],
    address: Annotated[str, typer.Argument(help="HOST:PORT of a DICOM listener.")],
    called: Annotated[str, typer.Option(help="Its AE title.")] = "LUNGMESH",
    as_json: AsJson = False,
) -> None:
    """Send a study to a DICOM listener (C-STORE)."""
    from lungmesh.cli.folder import read_folder
    from lungmesh.cli.sending import require_all, send_folder

    show = choose_show(as_json)
    report = send_folder(read_folder(folder), address, show, called)
    show.settle()
    require_all(report)


@app.command()
def watch(data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Show every study of a running mesh, and each change, until Ctrl-C."""
    from lungmesh.cli.watch import watch_studies

    watch_studies(data, as_json)


@app.command()
def serve(service: Annotated[str, typer.Argument(help="Such as preprocess.")]) -> None:
    """Run one service; its settings come from the environment (LUNGMESH_…)."""
    from lungmesh.mesh.serve import main as serve_main

    serve_main(service)


register_followup(app)


@dlq_app.command("list")
def dlq_list(
    stage: Annotated[str | None, typer.Argument(help="One stage; all when left out.")] = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """List dead letters."""
    from lungmesh.cli.dlq import list_letters

    list_letters(data, stage, choose_show(as_json))


@dlq_app.command("show")
def dlq_show(
    event_id: Annotated[str, typer.Argument(help="Id of the event.")],
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: why it failed, where it stood, what it says."""
    from lungmesh.cli.dlq import show_letter

    show_letter(data, event_id, choose_show(as_json))


@dlq_app.command("replay")
def dlq_replay(
    stage: Annotated[str, typer.Argument(help="The stage that gave the events up.")],
    event_id: Annotated[
        list[str] | None, typer.Option(help="Only this event; may be repeated.")
    ] = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Send dead letters on their way again."""
    from lungmesh.cli.dlq import replay_letters

    replay_letters(data, stage, event_id, choose_show(as_json))


@deliveries_app.command("list")
def deliveries_list(
    tenant: Tenant = TENANT,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="At most so many dead letters.")
    ] = 100,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """List destinations with what waits for each, and what each refused."""
    from lungmesh.cli.deliveries import list_deliveries

    list_deliveries(data, tenant, limit, choose_show(as_json))


@deliveries_app.command("replay")
def deliveries_replay(
    destination: Annotated[str, typer.Argument(help="Name of the destination.")],
    study: Annotated[
        str, typer.Option(help="Only this study (its id); its newest report in any case.")
    ] = "",
    tenant: Tenant = TENANT,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Send the dead letters of a destination on their way again."""
    from lungmesh.cli.deliveries import replay_deliveries

    replay_deliveries(data, tenant, destination, study, choose_show(as_json))


@models_app.command("list")
def models_list(data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List every version of every model, imported ones too."""
    from lungmesh.cli.models import list_models

    list_models(choose_show(as_json), data)


@models_app.command("verify")
def models_verify(data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Check each version: file, graph, and what it answers to a phantom."""
    from lungmesh.cli.models import verify_models

    verify_models(choose_show(as_json), data)


@models_app.command("write")
def models_write(
    out: Annotated[Path, typer.Argument(help="Folder for Triton's model repository.")],
    target: Annotated[
        Literal["cpu", "gpu"], typer.Option(help="What that Triton runs on.")
    ] = "gpu",
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="On the GPU, let TensorRT run the networks.")
    ] = False,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Write the model repository for a Triton that others run."""
    from lungmesh.cli.models import write_models
    from lungmesh.embedded.repository import Target

    write_models(out, Target(target), tensorrt, choose_show(as_json), data)


@models_app.command("import")
def models_import(
    file: Annotated[
        Path, typer.Argument(help="ONNX or TorchScript file, or the folder of a MONAI bundle.")
    ],
    manifest: Annotated[
        Path | None, typer.Option(help="YAML or JSON that describes FILE; a bundle needs none.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Checksum that FILE must have; else the manifest's.")
    ] = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Take in a foreign detector: check it, try it on a phantom, and serve it from then on."""
    from lungmesh.cli.models_import import import_model

    import_model(file, manifest, sha256, data, choose_show(as_json))


def main() -> None:
    """Run `lungmesh`; every end has a sentence and an exit status (see `Exit`)."""
    try:
        _run()
    except BrokenPipeError:
        # Whoever read our output has left; Python must not complain of it at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.INTERRUPTED)


def _run() -> None:
    # A service manager's stop is a Ctrl-C: everything started is stopped in order.
    signal.signal(signal.SIGTERM, _interrupt)
    as_json = "--json" in sys.argv
    try:
        status = app(standalone_mode=False)
        if status == Exit.INTERRUPTED:
            # Typer turns a KeyboardInterrupt into this status.
            raise KeyboardInterrupt
        sys.exit(status if isinstance(status, int) else Exit.DONE)
    except CommandError as error:
        _end(str(error), error.exit_status, as_json)
    except BadInput as error:
        _end(str(error), Exit.USAGE, as_json)
    except MeshError as error:
        _end(str(error), Exit.NO_MESH, as_json)
    except KeyboardInterrupt:
        _end("interrupted", Exit.INTERRUPTED, as_json)
    except typer.TyperException as error:
        _end(error.format_message(), Exit.USAGE, as_json)


def _end(text: str, status: Exit, as_json: bool) -> None:
    # A command without its arguments has printed its help and has no more to say.
    if text:
        choose_show(as_json).error(text, status)
    sys.exit(status)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
