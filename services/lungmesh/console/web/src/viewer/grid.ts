// From voxel indices to DICOM patient coordinates (LPS, mm) and back.
import type { Geometry } from "../api";

export type Point = [number, number, number];

/** LPS of a voxel index (x, y, z). */
export function toWorld(grid: Geometry, index: Point): Point {
  const scaled = index.map((value, axis) => value * grid.spacing_mm[axis]);
  return [0, 1, 2].map(
    (row) =>
      grid.origin_lps_mm[row] +
      scaled.reduce((sum, value, axis) => sum + grid.direction[row * 3 + axis] * value, 0),
  ) as Point;
}

/** Voxel index (x, y, z), not rounded, of a place; the grid's axes are orthonormal. */
export function toIndex(grid: Geometry, world: Point): Point {
  const from = world.map((value, row) => value - grid.origin_lps_mm[row]);
  return [0, 1, 2].map(
    (axis) =>
      from.reduce((sum, value, row) => sum + grid.direction[row * 3 + axis] * value, 0) /
      grid.spacing_mm[axis],
  ) as Point;
}
