"""The report in every form that leaves the mesh."""
