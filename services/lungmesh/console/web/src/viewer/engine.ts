// Cornerstone3D, started once, and the mesh's series as its images.
import * as cornerstone from "@cornerstonejs/core";
import * as tools from "@cornerstonejs/tools";
import dicomImageLoader, { wadors } from "@cornerstonejs/dicom-image-loader";
import { dicomweb, getHeaders, type ReadStudy, type Series } from "../api";

// The only form that is asked for: the bundle holds no codecs, the mesh expands what is compressed.
const EXPLICIT_LITTLE =
  'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1';

let started: Promise<void> | undefined;

/** Starts the engine; a second call waits for the first. */
export function startEngine(): Promise<void> {
  started ??= start();
  return started;
}

async function start(): Promise<void> {
  // Without a GPU the library's own CPU path is several times faster than emulated WebGL.
  const { webgl, softwareRasterizer } = cornerstone.getRenderingCapabilities();
  await cornerstone.init({
    rendering: { useGenericViewport: true, useCPURendering: !webgl || softwareRasterizer },
  } as Parameters<typeof cornerstone.init>[0]);
  tools.init();
  for (const tool of [
    tools.StackScrollTool,
    tools.WindowLevelTool,
    tools.PanTool,
    tools.ZoomTool,
    tools.LengthTool,
    tools.BidirectionalTool,
    tools.CrosshairsTool,
  ]) {
    tools.addTool(tool);
  }
  dicomImageLoader.init({
    maxWebWorkers: Math.max(1, Math.min(4, navigator.hardwareConcurrency - 1)),
    beforeSend: () => ({ Accept: EXPLICIT_LITTLE }),
  } as Parameters<typeof dicomImageLoader.init>[0]);
}

/** A series as Cornerstone knows it: `imageIds` from head to feet, as people read. */
export interface Images {
  /** As `volumeOf` names it. */
  volume: string;
  series: Series;
  imageIds: string[];
}

/** What tells a study's volume from another's: a revision may have other slices. */
export const volumeOf = (study: ReadStudy): string =>
  `${study.row.study_id}/${study.row.revision}/${study.series.series_instance_uid}`;

/** Asks once for what belongs to a volume; what failed is asked for again. */
export function oncePerVolume<T>(ask: (study: ReadStudy) => Promise<T>): (study: ReadStudy) => Promise<T> {
  const known = new Map<string, Promise<T>>();
  return (study) => {
    const key = volumeOf(study);
    let answer = known.get(key);
    if (!answer) {
      answer = ask(study);
      answer.catch(() => known.delete(key));
      known.set(key, answer);
    }
    return answer;
  };
}

/** Tells Cornerstone of a volume's headers; pixels are fetched when they are shown. */
export const openSeries = oncePerVolume(async (study): Promise<Images> => {
  const { row, series } = study;
  // Starting the engine empties its store of headers: they come after it.
  const [headers] = await Promise.all([getHeaders(row.study_id), startEngine()]);
  if (headers.length !== series.slices.length) throw new Error("headers and slices differ");
  const root = new URL(dicomweb(series), location.origin).href;
  const imageIds = series.slices.map((sop, slice) => {
    // Where a slice is missing its neighbour stands for it, as an image of its own place.
    const again = series.slices.indexOf(sop) !== slice ? `?slice=${slice}` : "";
    const imageId = `wadors:${root}/instances/${sop}/frames/1${again}`;
    wadors.metaDataManager.add(imageId, headers[slice] as never);
    return imageId;
  });
  return { volume: volumeOf(study), series, imageIds: imageIds.reverse() };
});

/** Begins to fetch one image, so that it is there when a view asks for it. */
export function fetchAhead(images: Images, index: number): void {
  void cornerstone.imageLoader.loadAndCacheImage(images.imageIds[index]).catch(() => undefined);
}

/** Slice of the volume's grid (z upwards) at a place of the stack (head first), and back. */
export const flip = (images: Images, index: number): number => images.imageIds.length - 1 - index;

/** Fetches a whole series, the slices next to where `near` is first; stops when told. */
export function prefetch(
  images: Images,
  near: () => number,
  told: (loaded: number) => void,
): () => void {
  const left = new Set(images.imageIds.keys());
  let loaded = 0;
  let stopped = false;
  const nearest = (): number => {
    const at = near();
    return [...left].reduce((best, index) => (Math.abs(index - at) < Math.abs(best - at) ? index : best));
  };
  const work = async (): Promise<void> => {
    while (!stopped && left.size > 0) {
      const index = nearest();
      left.delete(index);
      await cornerstone.imageLoader
        .loadAndCacheImage(images.imageIds[index], {
          requestType: cornerstone.Enums.RequestType.Prefetch,
        } as never)
        .catch(() => undefined);
      loaded += 1;
      if (!stopped) told(loaded);
    }
  };
  for (let i = 0; i < 4; i++) void work();
  return () => {
    stopped = true;
  };
}
