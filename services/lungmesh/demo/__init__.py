"""The real CT that the demo and the tests read."""

from lungmesh.demo.case import CaseTruth, organ_map, write_case, write_small_case

__all__ = ["CaseTruth", "organ_map", "write_case", "write_small_case"]
