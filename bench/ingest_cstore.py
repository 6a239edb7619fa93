"""How fast ingest takes a CT in, against a bare receiver, Orthanc and dcmtk's storescp.

The same 133 instances (LIDC-IDRI-0001, 0.5 MB each) are sent by dcmtk's storescu, over 1 and over 4
associations, in interleaved rounds; each round is a new study. Printed are medians and ratios.

    ingest         the real service: spool, check, database, object store, broker
    bare           a pynetdicom receiver that writes event.encoded_dataset() to a file, as it comes
                   (pynetdicom's defaults: PDUs of 16 KiB)
    bare, big PDU  the same with ingest's PDUs of 128 KiB
    Orthanc        Debian's, its own defaults
    storescp       dcmtk's
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lungmesh.demo.case import write_case
from tests.support.broker import Broker, free_port
from tests.support.ingest import AE_TITLE, IngestProcess, until, with_new_uids

ROUNDS = 3
_BIG_PDU = 131072
_MUST = {"bare": 0.8, "Orthanc": 5.0}


def bare(port: int, folder: Path, pdu: int) -> None:
    """Run the bare receiver; never returns."""
    from pynetdicom import AE, AllStoragePresentationContexts, evt
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

    numbers = itertools.count()

    def store(event: object) -> int:
        data = event.encoded_dataset()  # type: ignore[attr-defined]
        (folder / f"{next(numbers)}.dcm").write_bytes(data)
        return 0

    ae = AE()
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    ae.maximum_pdu_size = pdu
    ae.start_server(("127.0.0.1", port), block=True, evt_handlers=[(evt.EVT_C_STORE, store)])


@contextmanager
def process(name: str, command: Sequence[str], port: int) -> Iterator[int]:
    """Run a receiver until the block ends."""
    quiet = subprocess.DEVNULL
    running = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        echo = ["echoscu", "-aec", AE_TITLE, "127.0.0.1", str(port)]
        until(lambda: subprocess.run(echo, stderr=quiet).returncode == 0, 20, f"start of {name}")
        yield port
    finally:
        running.terminate()
        running.wait(20)


@contextmanager
def receivers(work: Path) -> Iterator[dict[str, int]]:
    """Run every receiver; yields their ports."""
    with ExitStack() as stack:
        ports: dict[str, int] = {}
        broker = Broker()
        broker.start()
        stack.callback(broker.kill)
        ingest = IngestProcess(work / "ingest", broker)
        ingest.folder.mkdir()
        stack.callback(ingest.kill)
        ingest.start()
        ports["ingest"] = ingest.ports["dicom"]
        for name, pdu in (("bare", 16382), ("bare, big PDU", _BIG_PDU)):
            folder = work / name.replace(", ", "_").replace(" ", "_")
            folder.mkdir()
            port = free_port()
            command = [sys.executable, __file__, "bare", str(port), str(folder), str(pdu)]
            ports[name] = stack.enter_context(process(name, command, port))
        for name, command, port in _others(work):
            ports[name] = stack.enter_context(process(name, command, port))
        yield ports


def _others(work: Path) -> Iterator[tuple[str, list[str], int]]:
    if shutil.which("Orthanc"):
        port = free_port()
        settings = {
            "Name": "bench",
            "StorageDirectory": str(work / "orthanc"),
            "IndexDirectory": str(work / "orthanc"),
            "DicomAet": AE_TITLE,
            "DicomPort": port,
            "HttpPort": free_port(),
        }
        (work / "orthanc.json").write_text(json.dumps(settings))
        yield "Orthanc", ["Orthanc", str(work / "orthanc.json")], port
    else:
        print("Orthanc is not installed (Debian package orthanc): left out")
    port = free_port()
    (work / "storescp").mkdir()
    yield "storescp", ["storescp", "--output-directory", str(work / "storescp"), str(port)], port


def send(port: int, files: Sequence[Path], associations: int) -> float:
    """Send files over parallel associations; return instances per second."""
    started = time.perf_counter()
    senders = [
        subprocess.Popen(
            [
                "storescu",
                "-aec",
                AE_TITLE,
                "127.0.0.1",
                str(port),
                *map(str, files[n::associations]),
            ]
        )
        for n in range(associations)
    ]
    codes = [sender.wait(120) for sender in senders]
    seconds = time.perf_counter() - started
    if any(codes):
        raise SystemExit(f"storescu failed: {codes}")
    return len(files) / seconds


def main() -> None:
    """Print the rates and ratios; exit with 1 when a must is missed."""
    with tempfile.TemporaryDirectory(prefix="lungmesh-bench-") as name:
        work = Path(name)
        write_case(work / "case")
        rates: dict[tuple[str, int], list[float]] = {}
        with receivers(work) as ports:
            for number in range(ROUNDS + 1):
                for associations in (1, 4):
                    seed = f"{number}-{associations}"
                    files = with_new_uids(work / "case", work / seed, seed)
                    for receiver, port in ports.items():
                        # storescp takes one association at a time.
                        if associations > 1 and receiver in ("Orthanc", "storescp"):
                            continue
                        rate = send(port, files, associations)
                        # The first round only warms everything up.
                        if number:
                            rates.setdefault((receiver, associations), []).append(rate)
                    shutil.rmtree(work / seed)
    missed = report(rates)
    if missed:
        raise SystemExit("missed: " + "; ".join(missed))


def report(rates: dict[tuple[str, int], list[float]]) -> list[str]:
    """Print the table; return the musts that were missed.

    A ratio is the median of the rounds' ratios: what loads the machine for a while loads both.
    """
    missed = []
    print(f"{'receiver':15} {'associations':>12} {'instances/s':>12} {'ingest / it':>12}   rounds")
    for (receiver, associations), measured in sorted(rates.items(), key=lambda item: item[0][1]):
        ours = rates["ingest", associations]
        ratio = statistics.median(a / b for a, b in zip(ours, measured, strict=True))
        values = " ".join(f"{value:.0f}" for value in measured)
        rate = statistics.median(measured)
        print(f"{receiver:15} {associations:12} {rate:12.1f} {ratio:12.2f}   {values}")
        if ratio < _MUST.get(receiver, 0):
            missed.append(f"{receiver} x {associations}: {ratio:.2f}, must be {_MUST[receiver]:g}")
    return missed


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        bare(int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
