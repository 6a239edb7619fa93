"""The delivery service: reports out of the mesh, to every destination of their tenant."""

from __future__ import annotations

from lungmesh.delivery.settings import DeliverySettings
from lungmesh.delivery.stage import DeliveryStage
from lungmesh.mesh import Mesh, Service
from lungmesh.mesh.settings import load


def build(mesh: Mesh) -> Service:
    """Return the service.

    Raises SettingsError when a LUNGMESH_DELIVERY__ setting is wrong.
    """
    return Service(name="delivery", stages=[DeliveryStage(load(DeliverySettings))])
