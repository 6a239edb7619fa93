// Outlines and numbers of nodules, drawn as SVG over one viewport.
import type { Geometry } from "../api";
import { toIndex, toWorld, type Point } from "./grid";
import { inPlane, type Axis, type Outline } from "./outline";

const SVG = "http://www.w3.org/2000/svg";

/** A nodule as the overlay draws it. */
export interface Mark {
  id: string;
  number: number;
  outline: Outline;
  look: "plain" | "rejected";
}

interface Plane {
  worldToCanvas(world: Point): [number, number];
  getCamera(): { focalPoint?: number[]; viewPlaneNormal?: number[] };
}

export class Overlay {
  private readonly svg: SVGSVGElement;

  constructor(element: HTMLElement) {
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.classList.add("outlines");
    this.svg.setAttribute("aria-hidden", "true");
    element.append(this.svg);
  }

  /** Draws the marks that the viewport's plane cuts; gives the plane's index on its axis. */
  draw(view: Plane, grid: Geometry, marks: Mark[], selected: string | null): number {
    const { focalPoint, viewPlaneNormal } = view.getCamera();
    if (!focalPoint || !viewPlaneNormal) return -1;
    const axis = cutAxis(grid, viewPlaneNormal);
    const index = Math.round(toIndex(grid, focalPoint as Point)[axis]);
    const place = affine(view, grid, axis, index);
    this.svg.replaceChildren(
      ...marks.flatMap((mark) => this.shapes(mark, axis, index, place, mark.id === selected)),
    );
    return index;
  }

  clear(): void {
    this.svg.replaceChildren();
  }

  remove(): void {
    this.svg.remove();
  }

  private shapes(
    mark: Mark,
    axis: Axis,
    index: number,
    place: (u: number, v: number) => [number, number],
    chosen: boolean,
  ): SVGElement[] {
    const shapes: SVGElement[] = [];
    for (const label of [1, 2] as const) {
      const loops = mark.outline.loops(axis, index, label);
      if (loops.length === 0) continue;
      const at = loops.map((loop) => loop.map(([u, v]) => place(u, v)));
      const path = document.createElementNS(SVG, "path");
      const line = (loop: [number, number][]): string =>
        `M${loop.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}Z`;
      path.setAttribute("d", at.map(line).join(""));
      path.setAttribute("class", `outline ${mark.look}${label === 2 ? " inner" : ""}`);
      path.classList.toggle("chosen", chosen);
      path.dataset.nodule = mark.id;
      shapes.push(path);
      if (label === 1) shapes.push(number(mark, at.flat(), chosen));
    }
    return shapes;
  }
}

function number(mark: Mark, points: [number, number][], chosen: boolean): SVGElement {
  const text = document.createElementNS(SVG, "text");
  text.setAttribute("x", (Math.max(...points.map(([x]) => x)) + 5).toFixed(1));
  text.setAttribute("y", (Math.min(...points.map(([, y]) => y)) - 3).toFixed(1));
  text.setAttribute("class", `number ${mark.look}`);
  text.classList.toggle("chosen", chosen);
  text.textContent = String(mark.number);
  return text;
}

/** The grid axis that is closest to the plane's normal. */
function cutAxis(grid: Geometry, normal: number[]): Axis {
  const along = [0, 1, 2].map((axis) =>
    Math.abs([0, 1, 2].reduce((sum, row) => sum + grid.direction[row * 3 + axis] * normal[row], 0)),
  );
  return along.indexOf(Math.max(...along)) as Axis;
}

/** Canvas place of (u, v) on a plane: the map is affine, three places fix it. */
function affine(
  view: Plane,
  grid: Geometry,
  axis: Axis,
  index: number,
): (u: number, v: number) => [number, number] {
  const [u, v] = inPlane[axis];
  const at = (a: number, b: number): [number, number] => {
    const voxel: Point = [0, 0, 0];
    voxel[axis] = index;
    voxel[u] = a;
    voxel[v] = b;
    return view.worldToCanvas(toWorld(grid, voxel));
  };
  const [zero, right, down] = [at(0, 0), at(100, 0), at(0, 100)];
  const step = (k: 0 | 1, a: number, b: number): number =>
    zero[k] + ((right[k] - zero[k]) * a + (down[k] - zero[k]) * b) / 100;
  return (a, b) => [step(0, a, b), step(1, a, b)];
}
