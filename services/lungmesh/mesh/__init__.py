"""The chassis: transport, retries, tracing, metrics and health, owned once for every service.

A stage author needs four names: `Stage`, `Context`, the errors, and `Service` to hold them.
"""

from lungmesh.mesh.errors import BadInput, MeshError, Refused, SettingsError, Unavailable
from lungmesh.mesh.service import Mesh, Service
from lungmesh.mesh.stage import Context, RetryPolicy, Stage

__all__ = [
    "BadInput",
    "Context",
    "Mesh",
    "MeshError",
    "Refused",
    "RetryPolicy",
    "Service",
    "SettingsError",
    "Stage",
    "Unavailable",
]
