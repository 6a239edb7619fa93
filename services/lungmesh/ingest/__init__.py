"""The door of the mesh: DICOM in by three ways, studies out when they are complete."""
