import { useWords } from "../language";
import type { TextKey } from "../texts";
import type { Layout, WindowName } from "./scene";
import type { Tool } from "./tools";
import type { ViewerHandle } from "./Viewer";

interface Props {
  layout: Layout;
  tool: Tool;
  window: WindowName;
  outlines: boolean;
  linked: boolean;
  canCompare: boolean;
  act: ViewerHandle;
  clear(): void;
}

const windowKeys: [WindowName, string][] = [
  ["lung", "1"],
  ["mediastinum", "2"],
  ["bone", "3"],
];
const layoutKeys: [Layout, string][] = [
  ["axial", "4"],
  ["mpr", "5"],
  ["compare", "6"],
];
const toolKeys: [Tool, TextKey, string][] = [
  ["scroll", "tool_scroll", "S"],
  ["window", "tool_window", "W"],
  ["pan", "tool_pan", "P"],
  ["zoom", "tool_zoom", "Z"],
  ["length", "tool_length", "D"],
  ["bidirectional", "tool_axes", "B"],
];

export function Toolbar(props: Props) {
  const words = useWords();
  const { layout, tool, window, outlines, linked, canCompare, act } = props;
  const pressed = (on: boolean, text: TextKey, key: string, then: () => void, disabled = false) => (
    <button
      type="button"
      key={text}
      aria-pressed={on}
      title={`${words.say(text)} (${key})`}
      disabled={disabled}
      onClick={then}
    >
      {words.say(text)}
    </button>
  );
  return (
    <div class="toolbar" role="toolbar" aria-label={words.say("tool")}>
      <span class="group" role="group" aria-label={words.say("window")}>
        {windowKeys.map(([name, key]) => pressed(window === name, name, key, () => act.window(name)))}
      </span>
      <span class="group" role="group" aria-label={words.say("layout")}>
        {layoutKeys.map(([name, key]) =>
          pressed(layout === name, name, key, () => act.layout(name), name === "compare" && !canCompare),
        )}
      </span>
      <span class="group" role="group" aria-label={words.say("tool")}>
        {toolKeys.map(([name, text, key]) => pressed(tool === name, text, key, () => act.tool(name)))}
      </span>
      <span class="group">
        {pressed(outlines, "outlines", "O", act.toggleOutlines)}
        {layout === "compare" && pressed(linked, "linked", "K", act.toggleLink)}
        <button type="button" onClick={props.clear}>
          {words.say("clear")}
        </button>
        <button type="button" title={`${words.say("reset")} (0)`} onClick={act.reset}>
          {words.say("reset")}
        </button>
      </span>
    </div>
  );
}
