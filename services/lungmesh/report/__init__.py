"""The report in every form that leaves the mesh, and its delivery to the PACS."""
