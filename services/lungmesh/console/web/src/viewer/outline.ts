// Outlines of a nodule's mask on any plane of its volume's grid.
import type { Mask } from "../api";

/** A closed line in the plane: (u, v) in voxel indices, voxel centres at whole numbers. */
export type Loop = [number, number][];

/** The grid axis that a plane cuts: 0 sagittal, 1 coronal, 2 axial. */
export type Axis = 0 | 1 | 2;

/** In-plane axes (u, v) of a plane that cuts the axis. */
export const inPlane: Record<Axis, [Axis, Axis]> = { 0: [1, 2], 1: [0, 2], 2: [0, 1] };

export class Outline {
  private readonly voxels: Uint8Array;
  private readonly kept = new Map<string, Loop[]>();

  constructor(private readonly mask: Mask) {
    const [nx, ny, nz] = mask.size;
    this.voxels = new Uint8Array(nx * ny * nz);
    mask.rle.forEach((runs, z) => {
      let at = z * nx * ny;
      for (let i = 0; i + 1 < runs.length; i += 2) {
        this.voxels.fill(runs[i], at, at + runs[i + 1]);
        at += runs[i + 1];
      }
    });
  }

  /** Loops around the voxels of at least `label` on the plane `index` of the axis. */
  loops(axis: Axis, index: number, label: 1 | 2): Loop[] {
    const key = `${axis}/${index}/${label}`;
    let loops = this.kept.get(key);
    if (!loops) {
      loops = this.trace(axis, index, label);
      this.kept.set(key, loops);
    }
    return loops;
  }

  private trace(axis: Axis, index: number, label: number): Loop[] {
    const cut = index - this.mask.offset[axis];
    if (cut < 0 || cut >= this.mask.size[axis]) return [];
    const [u, v] = inPlane[axis];
    const [nu, nv] = [this.mask.size[u], this.mask.size[v]];
    const place = [0, 0, 0];
    place[axis] = cut;
    const inside = (a: number, b: number): boolean => {
      if (a < 0 || b < 0 || a >= nu || b >= nv) return false;
      place[u] = a;
      place[v] = b;
      const [nx, ny] = this.mask.size;
      return this.voxels[(place[2] * ny + place[1]) * nx + place[0]] >= label;
    };
    const start: [number, number] = [this.mask.offset[u], this.mask.offset[v]];
    return chain(edges(inside, nu, nv), nu + 1).map((loop) => midpoints(loop, start));
  }
}

type Corner = [number, number];

/** Directed edges between inside and outside, by their first corner; inside lies on the right. */
function edges(
  inside: (a: number, b: number) => boolean,
  nu: number,
  nv: number,
): Map<number, Corner[]> {
  const from = new Map<number, Corner[]>();
  const add = (a: number, b: number, to: Corner): void => {
    const key = b * (nu + 1) + a;
    const known = from.get(key);
    if (known) known.push(to);
    else from.set(key, [to]);
  };
  for (let b = 0; b < nv; b++) {
    for (let a = 0; a < nu; a++) {
      if (!inside(a, b)) continue;
      if (!inside(a, b - 1)) add(a, b, [a + 1, b]);
      if (!inside(a + 1, b)) add(a + 1, b, [a + 1, b + 1]);
      if (!inside(a, b + 1)) add(a + 1, b + 1, [a, b + 1]);
      if (!inside(a - 1, b)) add(a, b + 1, [a, b]);
    }
  }
  return from;
}

function chain(from: Map<number, Corner[]>, width: number): Corner[][] {
  const loops: Corner[][] = [];
  for (const [first, ends] of from) {
    while (ends.length > 0) {
      const loop: Corner[] = [];
      let at: Corner = [first % width, Math.floor(first / width)];
      for (;;) {
        const next = from.get(at[1] * width + at[0])?.pop();
        if (!next) break;
        loop.push(next);
        at = next;
      }
      loops.push(loop);
    }
  }
  return loops;
}

/** The staircase of corners as the smoother line through the middle of its edges. */
function midpoints(loop: Corner[], [u0, v0]: [number, number]): Loop {
  return loop.map(([a, b], i) => {
    const [c, d] = loop[(i + 1) % loop.length];
    return [u0 + (a + c) / 2 - 0.5, v0 + (b + d) / 2 - 0.5];
  });
}
