"""Options that many commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path, typer.Option("--data", help="Data directory of the mesh.", envvar="LUNGMESH_DATA")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]
