import type { Nodule } from "../api";
import { useWords } from "../language";

interface Props {
  count: number;
  slice: number | null;
  /** The volume's slices go upwards; people read from the head down. */
  headFirst: boolean;
  nodules: Nodule[];
  selected: string | null;
  onSlice(slice: number): void;
  onSelect: ((nodule: string) => void) | null;
}

/** A slider through the slices, with a tick where a nodule lies. */
export function SliceBar({ count, slice, headFirst, nodules, selected, onSlice, onSelect }: Props) {
  const words = useWords();
  const turned = (value: number): number => (headFirst ? count - 1 - value : value);
  const at = slice === null ? 0 : turned(slice);
  return (
    <div class="slicebar">
      <input
        type="range"
        min={0}
        max={count - 1}
        value={at}
        aria-label={words.say("slice")}
        aria-valuetext={words.say("slice_of", at + 1, count)}
        onInput={(event) => onSlice(turned(Number(event.currentTarget.value)))}
      />
      <div class="ticks">
        {nodules.map((nodule) => (
          <button
            type="button"
            key={nodule.nodule_id}
            class={nodule.nodule_id === selected ? "tick chosen" : "tick"}
            style={{ top: `${(100 * (turned(nodule.slice_index) + 0.5)) / count}%` }}
            title={`${nodule.number}`}
            aria-label={`${words.say("nodules")} ${nodule.number}`}
            tabIndex={-1}
            disabled={onSelect === null}
            onClick={() => onSelect?.(nodule.nodule_id)}
          />
        ))}
      </div>
      <output>{slice === null ? "" : `${at + 1}/${count}`}</output>
    </div>
  );
}
