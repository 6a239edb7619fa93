"""Build hook: makes the protobuf and gRPC modules from protos/ (never committed, never edited)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
PROTOS = ROOT / "protos"
OUT = ROOT / "services"


def generate() -> None:
    """Write services/lungmesh/v1/*_pb2{,_grpc}.py and their type stubs."""
    import grpc_tools
    from grpc_tools import protoc

    files = sorted(str(path) for path in PROTOS.glob("lungmesh/v1/*.proto"))
    include = Path(grpc_tools.__file__).parent / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"-I{PROTOS}",
            f"-I{include}",
            f"--python_out={OUT}",
            f"--grpc_python_out={OUT}",
            f"--mypy_out={OUT}",
            f"--mypy_grpc_out={OUT}",
            *files,
        ]
    )
    if code:
        sys.exit(f"protoc failed with exit status {code}")
    (OUT / "lungmesh" / "v1" / "__init__.py").write_text(
        '"""Generated from protos/lungmesh/v1."""\n'
    )


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class ProtoBuildHook(BuildHookInterface):  # type: ignore[misc]
        """Runs before the wheel is put together, for editable installs too."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            generate()
            build_data["artifacts"].append("services/lungmesh/v1/*")

except ImportError:  # `python hatch_build.py`, without hatchling
    pass


if __name__ == "__main__":
    sys.path.insert(0, str(Path(sys.executable).parent))
    generate()
