"""`lungmesh …`: the command line people meet."""

from __future__ import annotations

from lungmesh.cli.app import app, main

__all__ = ["app", "main"]
