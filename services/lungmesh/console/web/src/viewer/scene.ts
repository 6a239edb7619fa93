// The viewports of one study: layouts, tools, windows, linked scrolling, outlines.
import { Enums, RenderingEngine, volumeLoader, type PlanarViewport } from "@cornerstonejs/core";
import { fetchAhead, flip, startEngine, type Images } from "./engine";
import { toIndex, toWorld, type Point } from "./grid";
import { Overlay, type Mark } from "./overlay";
import { Tools, type Axes, type Tool } from "./tools";

export type Role = "current" | "prior";
export type Plane = "axial" | "coronal" | "sagittal";
export type Layout = "axial" | "mpr" | "compare";

/** One view: whose series, which plane, and the element that holds it. */
export interface Pane {
  id: string;
  role: Role;
  plane: Plane;
  element: HTMLDivElement;
}

/** Window width and level, HU. */
export const windows = {
  lung: { width: 1500, level: -600 },
  mediastinum: { width: 400, level: 40 },
  bone: { width: 1800, level: 400 },
} as const;
export type WindowName = keyof typeof windows;

interface Held extends Pane {
  images: Images;
  view: PlanarViewport;
  overlay: Overlay;
  slice: number;
  frames: number;
  /** False while the pane still has its series' own window. */
  ready: boolean;
}

type View = PlanarViewport & {
  setStack(ids: string[], index: number): Promise<unknown>;
  setVolumes(volumes: { volumeId: string }[]): Promise<void>;
  setProperties(properties: { voiRange: { lower: number; upper: number } }): void;
  getCamera(): { focalPoint?: number[]; viewPlaneNormal?: number[] };
};

const rangeOf = ({ width, level }: { width: number; level: number }) => ({
  lower: level - width / 2,
  upper: level + width / 2,
});

const middleOf = (images: Images): number => Math.floor(images.imageIds.length / 2);

/** Place in the stack of the slice that is nearest to a place of the exam. */
function stackIndex(images: Images, place: Point): number {
  const slice = Math.round(toIndex(images.series.geometry, place)[2]);
  return Math.min(images.imageIds.length - 1, Math.max(0, flip(images, slice)));
}

let scenes = 0;

export class Scene {
  linked = true;
  private readonly id = `scene-${++scenes}`;
  private engine?: RenderingEngine;
  private tools?: Tools;
  private held: Held[] = [];
  private marks: Record<Role, Mark[]> = { current: [], prior: [] };
  private selected: string | null = null;
  private outlines = true;
  private range: { lower: number; upper: number } = rangeOf(windows.lung);
  private tool: Tool = "window";
  /** From a place of the current exam to the same place of the prior, mm. */
  private shift: Point = [0, 0, 0];
  private active = 0;
  private first: Record<Role, number> = { current: 0, prior: 0 };
  private laying = 0;

  /** `onSlice` hears of every slice that a pane shows: index in the volume's grid. */
  constructor(private readonly onSlice: (pane: string, slice: number) => void) {}

  /** Shows the panes; what was shown before goes. Slices stay where they were, by place. */
  async lay(panes: Pane[], images: Record<Role, Images | null>, at: Point | null): Promise<void> {
    const laying = ++this.laying;
    await startEngine();
    if (laying !== this.laying) return;
    this.clear();
    const shown = panes.filter((pane) => images[pane.role] !== null);
    for (const pane of shown) this.fetchFirst(pane.role, images[pane.role] as Images, at);
    const flat = shown.every((pane) => pane.plane === "axial");
    const orientation = (plane: Plane) => Enums.OrientationAxis[plane.toUpperCase() as "AXIAL"];
    this.engine = new RenderingEngine(`${this.id}-${laying}`);
    this.engine.setViewports(
      shown.map((pane) => ({
        viewportId: pane.id,
        element: pane.element,
        type: flat ? Enums.ViewportType.STACK : Enums.ViewportType.ORTHOGRAPHIC,
        defaultOptions: {
          background: [0, 0, 0] as Point,
          ...(flat ? {} : { orientation: orientation(pane.plane) }),
        },
      })),
    );
    this.held = shown.map((pane) => this.hold(pane, images[pane.role] as Images));
    this.tools = new Tools(`${this.id}-${laying}`, this.engine.id, shown.map((p) => p.id), !flat);
    this.tools.choose(this.tool);
    await Promise.all(this.held.map((pane) => this.fill(pane, flat, at)));
  }

  private hold(pane: Pane, images: Images): Held {
    const view = this.engine?.getViewport(pane.id) as unknown as PlanarViewport;
    const overlay = new Overlay(pane.element);
    const held: Held = { ...pane, images, view, overlay, slice: -1, frames: 0, ready: false };
    pane.element.addEventListener(Enums.Events.IMAGE_RENDERED, () => this.rendered(held));
    pane.element.addEventListener(Enums.Events.VOI_MODIFIED, (event) => this.windowed(held, event));
    pane.element.addEventListener("pointerenter", () => {
      this.active = this.held.indexOf(held);
    });
    return held;
  }

  private async fill(pane: Held, flat: boolean, at: Point | null): Promise<void> {
    const view = pane.view as View;
    const { images } = pane;
    const place = at ? this.placeIn(pane.role, at) : null;
    if (flat) {
      const first = place ? stackIndex(images, place) : middleOf(images);
      await view.setStack(images.imageIds, first);
    } else {
      const volumeId = `cornerstoneStreamingImageVolume:${images.volume}`;
      const volume = await volumeLoader.createAndCacheVolume(volumeId, {
        imageIds: images.imageIds,
      });
      (volume as unknown as { load(): void }).load();
      await view.setVolumes([{ volumeId }]);
      if (place) this.show(pane, place);
    }
    pane.ready = true;
    view.setProperties({ voiRange: this.range });
    view.render();
  }

  private rendered(pane: Held): void {
    const slice = this.draw(pane);
    pane.frames += 1;
    pane.element.dataset.frames = String(pane.frames);
    if (slice === pane.slice) return;
    pane.slice = slice;
    pane.element.dataset.slice = String(slice);
    this.onSlice(pane.id, slice);
    if (this.linked && this.held.indexOf(pane) === this.active) this.follow(pane, slice);
  }

  /** Takes the other exam's panes to the place that a pane came to. */
  private follow(pane: Held, slice: number): void {
    const grid = pane.images.series.geometry;
    const place = toWorld(grid, [grid.size[0] / 2, grid.size[1] / 2, slice]);
    const sign = pane.role === "current" ? 1 : -1;
    const there = place.map((value, i) => value + sign * this.shift[i]) as Point;
    for (const other of this.held) if (other.role !== pane.role) this.show(other, there);
  }

  private windowed(from: Held, event: Event): void {
    const { range } = (event as CustomEvent<{ range?: { lower: number; upper: number } }>).detail;
    if (!from.ready || !range || (range.lower === this.range.lower && range.upper === this.range.upper)) return;
    this.range = { lower: range.lower, upper: range.upper };
    for (const pane of this.held) if (pane !== from) this.applyWindow(pane);
  }

  private applyWindow(pane: Held): void {
    (pane.view as View).setProperties({ voiRange: this.range });
    pane.view.render();
  }

  /** Making the views takes as long as the first image's way. */
  private fetchFirst(role: Role, images: Images, at: Point | null): void {
    this.first[role] = at ? stackIndex(images, this.placeIn(role, at)) : middleOf(images);
    fetchAhead(images, this.first[role]);
  }

  private placeIn(role: Role, current: Point): Point {
    return role === "current"
      ? current
      : (current.map((value, i) => value + this.shift[i]) as Point);
  }

  private show(pane: Held, place: Point): void {
    if (this.isStack(pane)) {
      void pane.view.setImageIdIndex(stackIndex(pane.images, place));
      return;
    }
    pane.view.setViewState({ slice: { kind: "volumePoint", sliceWorldPoint: place } });
    pane.view.render();
  }

  private isStack(pane: Held): boolean {
    return pane.plane === "axial" && pane.view.getCurrentMode() === "stack";
  }

  /** Goes to a place of the current exam, and the prior to its own or the shifted one. */
  goTo(current: Point, prior: Point | null): void {
    if (prior) this.shift = prior.map((value, i) => value - current[i]) as Point;
    for (const pane of this.held) this.show(pane, this.placeIn(pane.role, current));
  }

  /** Goes to a slice (index in the volume's grid) of one pane. */
  goToSlice(pane: string, slice: number): void {
    const index = this.held.findIndex((one) => one.id === pane);
    if (index < 0) return;
    this.active = index;
    const { size } = this.held[index].images.series.geometry;
    const at: Point = [size[0] / 2, size[1] / 2, size[2] / 2];
    at[{ sagittal: 0, coronal: 1, axial: 2 }[this.held[index].plane]] = slice;
    this.show(this.held[index], toWorld(this.held[index].images.series.geometry, at));
  }

  /** Scrolls the pane under the pointer; positive goes towards the feet. */
  scroll(by: number): void {
    const pane = this.held[this.active] ?? this.held[0];
    if (pane) void pane.view.scroll(by);
  }

  /** Place in the stack of the slice that an exam's axial pane shows or is about to show. */
  at(role: Role): number {
    const pane = this.held.find((one) => one.role === role && one.plane === "axial");
    return pane && pane.slice >= 0 ? flip(pane.images, pane.slice) : this.first[role];
  }

  link(linked: boolean): void {
    const [current, prior] = ["current", "prior"].map((role) =>
      this.held.find((pane) => pane.role === role),
    );
    if (linked && !this.linked && current && prior) {
      const at = [current, prior].map(({ images: { series }, slice }) => {
        const grid = series.geometry;
        return toWorld(grid, [grid.size[0] / 2, grid.size[1] / 2, slice]);
      });
      this.shift = at[1].map((value, i) => value - at[0][i]) as Point;
    }
    this.linked = linked;
  }

  setWindow(name: WindowName): void {
    this.range = rangeOf(windows[name]);
    for (const pane of this.held) this.applyWindow(pane);
  }

  setTool(tool: Tool): void {
    this.tool = tool;
    this.tools?.choose(tool);
  }

  setMarks(role: Role, marks: Mark[]): void {
    this.marks[role] = marks;
    this.redraw();
  }

  setOutlines(shown: boolean, selected: string | null): void {
    this.outlines = shown;
    this.selected = selected;
    this.redraw();
  }

  private redraw(): void {
    for (const pane of this.held) if (pane.slice >= 0) this.draw(pane);
  }

  private draw(pane: Held): number {
    const marks = this.outlines ? this.marks[pane.role] : [];
    const grid = pane.images.series.geometry;
    return pane.overlay.draw(pane.view as View, grid, marks, this.selected);
  }

  /** The last long and short axis, mm, drawn on the current exam where `of` holds. */
  drawnAxes(of: (middle: Point, long: number) => boolean): Axes | null {
    const pane = this.held.find((one) => one.role === "current" && one.plane === "axial");
    return pane ? (this.tools?.drawnAxes(pane.element, of) ?? null) : null;
  }

  clearMeasurements(): void {
    this.tools?.clearMeasurements();
    this.engine?.render();
  }

  reset(): void {
    for (const pane of this.held) pane.view.resetViewState();
    this.engine?.render();
  }

  resize(): void {
    this.engine?.resize(true, false);
    // The engine passes over the views that are drawn by the CPU: their GPU canvas is hidden.
    for (const pane of this.held) pane.view.resizeForRenderingEngine({ keepCamera: false });
    this.engine?.render();
  }

  private clear(): void {
    for (const pane of this.held) pane.overlay.remove();
    this.held = [];
    this.active = 0;
    this.tools?.remove();
    this.engine?.destroy();
    this.engine = undefined;
  }

  destroy(): void {
    this.laying += 1;
    this.clear();
  }
}
