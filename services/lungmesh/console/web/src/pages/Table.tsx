import type { ComponentChildren } from "preact";
import { useWords } from "../language";

type Cell = string | number | boolean | null | undefined;

interface Props {
  rows: Record<string, Cell>[];
  caption: string;
  /** A last cell for each row. */
  action?: (row: Record<string, Cell>) => ComponentChildren;
}

/** A table of whatever columns the server gives. */
export function Table({ rows, caption, action }: Props) {
  const words = useWords();
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (name: string, value: Cell): ComponentChildren => {
    if (value === null || value === undefined || value === "") return <span class="faint">–</span>;
    if (typeof value === "number") return Number.isInteger(value) ? value : value.toFixed(2);
    if (/(^|_)(at|seen|time)$/.test(name)) return words.time(String(value));
    if (/sha256|_id$/.test(name)) return <code title={String(value)}>{String(value).slice(0, 12)}</code>;
    if (typeof value === "boolean") return value ? "✓" : <span class="faint">–</span>;
    return name === "name" ? String(value) : words.term(String(value));
  };
  return (
    <section>
      <h2>{caption}</h2>
      {rows.length === 0 ? (
        <p class="faint">{words.say("nothing")}</p>
      ) : (
        <div class="scroller">
          <table>
            <thead>
              <tr>
                {columns.map((name) => (
                  <th scope="col" key={name}>
                    {words.column(name)}
                  </th>
                ))}
                {action && <th />}
              </tr>
            </thead>
            <tbody>
              {rows.map((row, i) => (
                <tr key={i}>
                  {columns.map((name) => (
                    <td key={name} class={typeof row[name] === "number" ? "figure" : ""}>
                      {cell(name, row[name])}
                    </td>
                  ))}
                  {action && <td>{action(row)}</td>}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
