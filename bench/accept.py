"""May a candidate take the place of the version in service? Two files of the referee, one verdict.

    LUNGMESH_DETECTION__NETWORK_VERSION=2 bench/detection.py --out out/bench/candidate.json
    bench/accept.py out/bench/detection.json out/bench/candidate.json

Exit status 0 accepts, 1 refuses with the reasons, 2 says why the files cannot be compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.referee.acceptance import judge
from bench.referee.results import Results


def main(arguments: list[str] | None = None) -> int:
    """Print the verdict and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("in_service", type=Path, nargs="?")
    parser.add_argument("candidate", type=Path, nargs="?")
    options = parser.parse_args(arguments)
    if options.candidate is None:
        # `make bench` calls every script bare.
        parser.print_help()
        return 0
    console = Console(width=110)
    try:
        old, new = (Results.read(path).runs[0] for path in (options.in_service, options.candidate))
        verdict = judge(old, new)
    except (OSError, ValueError) as error:
        console.print(f"cannot compare: {error}", highlight=False)
        return 2
    table = Table(title=f"Candidate against the version in service: {old.label}")
    table.add_column("CPM of")
    table.add_column("change", justify="right")
    change = verdict.change
    table.add_row("all", f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})")
    for name, by in verdict.groups.items():
        table.add_row(name, f"{by:+.3f}")
    table.add_row("seconds a scan", f"{verdict.seconds[0]:.1f} -> {verdict.seconds[1]:.1f}")
    console.print(table)
    console.print(f"in service: {', '.join(old.models)}", highlight=False)
    console.print(f"candidate:  {', '.join(new.models)}", highlight=False)
    for reason in verdict.reasons:
        console.print(f"refused: {reason}", highlight=False)
    if verdict.accepted:
        console.print("accepted")
    return 0 if verdict.accepted else 1


if __name__ == "__main__":
    sys.exit(main())
