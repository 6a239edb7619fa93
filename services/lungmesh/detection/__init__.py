"""Finds nodules: candidates by a network on Triton, then segmented, measured, typed and scored."""
