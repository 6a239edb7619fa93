import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { getMasks, type Nodule, type Prior, type ReadStudy, type Series } from "../api";
import { useWords } from "../language";
import type { TextKey } from "../texts";
import { oncePerVolume, openSeries, prefetch, volumeOf, type Images } from "./engine";
import { toIndex, toWorld, type Point } from "./grid";
import { Outline } from "./outline";
import type { Mark } from "./overlay";
import { Scene, type Layout, type Pane, type Plane, type Role, type WindowName } from "./scene";
import { SliceBar } from "./SliceBar";
import { Toolbar } from "./Toolbar";
import type { Axes, Tool } from "./tools";

/** What a shortcut or a dialog may ask of the viewer. */
export interface ViewerHandle {
  scroll(by: number): void;
  end(last: boolean): void;
  window(name: WindowName): void;
  layout(layout: Layout): void;
  tool(tool: Tool): void;
  toggleOutlines(): void;
  toggleLink(): void;
  reset(): void;
  /** The last axes that were drawn on this nodule. */
  drawnAxes(nodule: Nodule): Axes | null;
}

interface Props {
  study: ReadStudy;
  prior: ReadStudy | null;
  /** The earlier exams that can be shown. */
  priors: Prior[];
  onPrior(study: string): void;
  selected: Nodule | null;
  /** The selected nodule's centre in the prior, when it is known there. */
  priorCenter: Point | null;
  onSelect(nodule: string): void;
  handle: RefObject<ViewerHandle | null>;
}

const layouts: Record<Layout, { id: string; role: Role; plane: Plane }[]> = {
  axial: [{ id: "current", role: "current", plane: "axial" }],
  mpr: [
    { id: "axial", role: "current", plane: "axial" },
    { id: "coronal", role: "current", plane: "coronal" },
    { id: "sagittal", role: "current", plane: "sagittal" },
  ],
  compare: [
    { id: "current", role: "current", plane: "axial" },
    { id: "prior", role: "prior", plane: "axial" },
  ],
};

const coarse = matchMedia("(pointer: coarse)").matches;

export function Viewer(props: Props) {
  const { study, prior, priors, selected, priorCenter, onSelect, onPrior, handle } = props;
  const words = useWords();
  const [layout, setLayout] = useState<Layout>("axial");
  const [tool, setTool] = useState<Tool>(coarse ? "scroll" : "window");
  const [window, setWindow] = useState<WindowName>("lung");
  const [outlines, setOutlines] = useState(true);
  const [linked, setLinked] = useState(true);
  const [slices, setSlices] = useState<Record<string, number>>({});
  const [loaded, setLoaded] = useState(0);
  const [fault, setFault] = useState("");
  const elements = useRef<Record<string, HTMLDivElement | null>>({});
  const box = useRef<HTMLDivElement>(null);
  const place = useRef<Point | null>(selected && measuredAt(study.series, selected));
  const scene = useMemo(
    () => new Scene((pane, slice) => setSlices((all) => ({ ...all, [pane]: slice }))),
    [],
  );
  const compared = layout === "compare" && prior ? volumeOf(prior) : "";
  const panes = layouts[layout].filter((pane) => pane.role === "current" || prior);

  useEffect(() => () => scene.destroy(), [scene]);

  useEffect(() => {
    let gone = false;
    let stop = (): void => undefined;
    setSlices({});
    void (async () => {
      try {
        const images: Record<Role, Images | null> = {
          current: await openSeries(study),
          prior: layout === "compare" && prior ? await openSeries(prior) : null,
        };
        if (gone) return;
        const shown = panes.map((pane) => ({ ...pane, element: elements.current[pane.id] }) as Pane);
        await scene.lay(shown, images, place.current);
        if (gone || !images.current) return;
        setFault("");
        const stops = [prefetch(images.current, () => scene.at("current"), setLoaded)];
        if (images.prior) stops.push(prefetch(images.prior, () => scene.at("prior"), () => undefined));
        stop = () => stops.forEach((one) => one());
      } catch (error) {
        if (!gone) setFault(words.fault(error));
      }
    })();
    return () => {
      gone = true;
      stop();
    };
  }, [scene, layout, volumeOf(study), compared]);

  const noOutlines = (error: unknown): void => setFault(words.fault(error));
  useMarks(scene, "current", study, noOutlines);
  useMarks(scene, "prior", prior, noOutlines);
  useEffect(() => {
    scene.setOutlines(outlines, selected?.nodule_id ?? null);
  }, [scene, outlines, selected?.nodule_id]);

  useEffect(() => {
    if (!selected) return;
    place.current = measuredAt(study.series, selected);
    scene.goTo(place.current, priorCenter);
  }, [scene, selected?.nodule_id, priorCenter?.join()]);

  useLayoutEffect(() => {
    if (!box.current) return;
    const watch = new ResizeObserver(() => scene.resize());
    watch.observe(box.current);
    return () => watch.disconnect();
  }, [scene]);

  const act: ViewerHandle = {
    scroll: (by) => scene.scroll(by),
    end: (last) => scene.scroll(last ? 100000 : -100000),
    window: (name) => (setWindow(name), scene.setWindow(name)),
    layout: (name) => (name === "compare" && !prior ? undefined : setLayout(name)),
    tool: (name) => (setTool(name), scene.setTool(name)),
    toggleOutlines: () => setOutlines((shown) => !shown),
    toggleLink: () => (scene.link(!linked), setLinked(!linked)),
    reset: () => scene.reset(),
    drawnAxes: (nodule) =>
      scene.drawnAxes((middle, long) => {
        const far = (one: Nodule): number => Math.hypot(...middle.map((v, i) => v - one.center_lps_mm[i]));
        const others = [...study.nodules, ...study.rejected];
        return (
          far(nodule) <= Math.max(long, nodule.long_axis_mm) && others.every((one) => far(one) >= far(nodule))
        );
      }),
  };
  handle.current = act;
  useEffect(() => scene.setTool(tool), []);

  const total = study.series.slices.length;
  return (
    <section class="viewer" aria-label={words.say("slice")} ref={box}>
      <Toolbar
        {...{ layout, tool, window, outlines, linked }}
        canCompare={prior !== null}
        act={act}
        clear={() => scene.clearMeasurements()}
      />
      <div class={`panes ${layout}`}>
        {panes.map((pane) => {
          const of = pane.role === "current" ? study : (prior as ReadStudy);
          const count = of.series.geometry.size[{ sagittal: 0, coronal: 1, axial: 2 }[pane.plane]];
          return (
            <div class="pane" key={`${layout}/${of.row.study_id}/${pane.id}`}>
              <div class="frame">
                <div
                  class="picture"
                  data-pane={pane.id}
                  ref={(element) => {
                    elements.current[pane.id] = element;
                  }}
                  onContextMenu={(event) => event.preventDefault()}
                />
              </div>
              <p class="corner">
                <strong>{words.say((layout === "mpr" ? pane.plane : pane.role) as TextKey)}</strong>{" "}
                {pane.role === "prior" && priors.length > 1 ? (
                  <select
                    aria-label={words.say("prior")}
                    value={of.row.study_id}
                    onChange={(event) => onPrior(event.currentTarget.value)}
                  >
                    {priors.map((one) => (
                      <option key={one.study_id} value={one.study_id}>
                        {words.date(one.study_date)}
                      </option>
                    ))}
                  </select>
                ) : (
                  words.date(of.row.study_date)
                )}
              </p>
              <SliceBar
                count={count}
                slice={slices[pane.id] ?? null}
                headFirst={pane.plane === "axial"}
                nodules={pane.plane === "axial" ? of.nodules : []}
                selected={selected?.nodule_id ?? null}
                onSlice={(slice) => scene.goToSlice(pane.id, slice)}
                onSelect={pane.role === "current" ? onSelect : null}
              />
            </div>
          );
        })}
      </div>
      <p class="status" role="status">
        {fault || (loaded < total ? words.say("loaded", loaded, total) : "")}
      </p>
    </section>
  );
}

/** The nodule's centre, on the slice that its sizes were taken on. */
export function measuredAt(series: Series, nodule: Nodule): Point {
  const [x, y] = toIndex(series.geometry, nodule.center_lps_mm);
  return toWorld(series.geometry, [x, y, nodule.slice_index]);
}

/** The outlines of a study by nodule; corrections do not change them. */
const outlinesOf = oncePerVolume(async ({ row }) => {
  const { masks } = await getMasks(row.study_id);
  return new Map(Object.entries(masks).map(([nodule, mask]) => [nodule, new Outline(mask)]));
});

/** Keeps the scene's outlines of one exam as the study says. */
function useMarks(scene: Scene, role: Role, study: ReadStudy | null, failed: (error: unknown) => void): void {
  useEffect(() => {
    let gone = false;
    if (!study) {
      scene.setMarks(role, []);
      return;
    }
    outlinesOf(study).then(
      (outlines) => {
        if (gone) return;
        const marks = [...study.nodules, ...study.rejected].map(({ nodule_id: id, number }) => {
          const look = study.rejected.some((one) => one.nodule_id === id) ? "rejected" : "plain";
          return { id, number, look, outline: outlines.get(id) };
        });
        scene.setMarks(role, marks.filter((mark) => mark.outline) as Mark[]);
      },
      (error: unknown) => !gone && failed(error),
    );
    return () => {
      gone = true;
    };
  }, [scene, role, study]);
}
