// Mouse, touch and measuring tools of one scene's viewports.
import {
  annotation,
  BidirectionalTool,
  CrosshairsTool,
  Enums,
  LengthTool,
  PanTool,
  StackScrollTool,
  ToolGroupManager,
  WindowLevelTool,
  ZoomTool,
} from "@cornerstonejs/tools";
import type { Point } from "./grid";

const { MouseBindings } = Enums;

const primary = {
  scroll: StackScrollTool.toolName,
  window: WindowLevelTool.toolName,
  pan: PanTool.toolName,
  zoom: ZoomTool.toolName,
  length: LengthTool.toolName,
  bidirectional: BidirectionalTool.toolName,
  cross: CrosshairsTool.toolName,
} as const;
export type Tool = keyof typeof primary;

/** A long and a short axis, mm. */
export interface Axes {
  long: number;
  short: number;
}

export class Tools {
  private readonly group;

  constructor(
    private readonly id: string,
    engineId: string,
    viewportIds: string[],
    private readonly planes: boolean,
  ) {
    const group = ToolGroupManager.createToolGroup(id);
    if (!group) throw new Error(`tool group ${id} stands already`);
    this.group = group;
    for (const name of Object.values(primary)) {
      if (name !== primary.cross || planes) group.addTool(name);
    }
    for (const viewportId of viewportIds) group.addViewport(viewportId, engineId);
    for (const name of [primary.length, primary.bidirectional]) group.setToolPassive(name);
  }

  /** Puts the tool on the primary button; wheel, middle and right button keep theirs. */
  choose(tool: Tool): void {
    const chosen = primary[tool === "cross" && !this.planes ? "window" : tool];
    const bindings: Record<string, object[]> = {
      [primary.scroll]: [{ mouseButton: MouseBindings.Wheel }],
      [primary.pan]: [{ mouseButton: MouseBindings.Auxiliary }],
      [primary.zoom]: [{ mouseButton: MouseBindings.Secondary }, { numTouchPoints: 2 }],
    };
    (bindings[chosen] ??= []).push({ mouseButton: MouseBindings.Primary });
    for (const name of Object.values(primary)) {
      if (!this.group.hasTool(name)) continue;
      if (bindings[name]) this.group.setToolActive(name, { bindings: bindings[name] });
      else if (name === primary.window || name === primary.cross) this.group.setToolDisabled(name);
      else this.group.setToolPassive(name, { removeAllBindings: true });
    }
  }

  /** The last long and short axis whose middle `of` takes. */
  drawnAxes(element: HTMLDivElement, of: (middle: Point, long: number) => boolean): Axes | null {
    const drawn = annotation.state.getAnnotations(BidirectionalTool.toolName, element) ?? [];
    for (const { data } of [...drawn].reverse()) {
      const sizes = data.cachedStats as Record<string, { length?: number; width?: number }> | undefined;
      const size = Object.values(sizes ?? {})[0];
      const points = data.handles?.points as Point[] | undefined;
      if (!size?.length || !size.width || !points || points.length < 2) continue;
      const long = Math.max(size.length, size.width);
      const middle = points[0].map((value, i) => (value + points[1][i]) / 2) as Point;
      if (of(middle, long)) return { long, short: Math.min(size.length, size.width) };
    }
    return null;
  }

  clearMeasurements(): void {
    annotation.state.removeAllAnnotations();
  }

  remove(): void {
    ToolGroupManager.destroyToolGroup(this.id);
  }
}
