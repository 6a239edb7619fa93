import { useEffect, useRef } from "preact/hooks";
import { useWords } from "./language";
import { Modal } from "./Modal";
import type { TextKey } from "./texts";

/** Runs `keys[key]` unless the reader is typing or a dialog is open; only scrolling keys repeat while held. */
export function useKeys(keys: Record<string, (event: KeyboardEvent) => void>): void {
  // Taken while rendering: an effect runs later, and until then a key would act on what was chosen before.
  const newest = useRef(keys);
  newest.current = keys;
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.repeat && !/^(Arrow|Page)/.test(event.key)) return;
      const target = event.target as HTMLElement;
      if (target.matches("input:not([type=range]), select, textarea")) return;
      if (target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
      if (document.querySelector("dialog[open]")) return;
      const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const act = newest.current[event.shiftKey && name.length === 1 && /[a-z]/.test(name) ? `shift+${name}` : name];
      if (!act) return;
      event.preventDefault();
      act(event);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

const shortcuts: [string, TextKey][] = [
  ["↑ ↓", "key_scroll"],
  ["PgUp PgDn", "key_scroll10"],
  ["Home End", "key_ends"],
  ["N  Shift+N", "key_nodule"],
  ["1 2 3", "key_windows"],
  ["4 5 6", "key_layout"],
  ["S", "tool_scroll"],
  ["W", "tool_window"],
  ["P", "tool_pan"],
  ["Z", "tool_zoom"],
  ["D", "tool_length"],
  ["B", "tool_bidirectional"],
  ["O", "outlines"],
  ["K", "linked"],
  ["0", "reset"],
  ["C", "confirm"],
  ["X", "reject"],
  ["M", "remeasure"],
  ["T", "retype"],
  ["L", "link"],
  ["R", "report"],
  ["G", "sign"],
  ["J ↓  K ↑", "key_rows"],
  ["Enter", "key_open"],
  ["U", "key_worklist"],
  ["?", "key_help"],
];

export function Help({ onClose }: { onClose(): void }) {
  const words = useWords();
  return (
    <Modal title={words.say("help")} onClose={onClose} wide>
      <dl class="keys">
        {shortcuts.map(([keys, text]) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{words.say(text)}</dd>
          </div>
        ))}
      </dl>
      <form method="dialog">
        <button class="primary">{words.say("close")}</button>
      </form>
    </Modal>
  );
}
