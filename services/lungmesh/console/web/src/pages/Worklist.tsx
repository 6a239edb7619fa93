import { useEffect, useRef, useState } from "preact/hooks";
import { getWorklist, rowEvents, type Session, type StudyRow } from "../api";
import { useKeys } from "../keys";
import { useWords } from "../language";
import { rank } from "../study/Details";

const categories = ["0", "1", "2", "3", "4A", "4B", "4X"];
const priorities = ["stat", "routine", "backfill"];
const outcomes = ["in_progress", "done", "failed"];

interface Filter {
  [name: string]: string;
  tenant: string;
  priority: string;
  category: string;
  outcome: string;
  due_before: string;
}

export function Worklist({ session }: { session: Session }) {
  const words = useWords();
  const [filter, setFilter] = useState<Filter>({
    tenant: "",
    priority: "",
    category: "",
    outcome: "",
    due_before: "",
  });
  // The places of the pages so far; the last one is shown.
  const [pages, setPages] = useState<string[]>([""]);
  const [rows, setRows] = useState<StudyRow[] | null>(null);
  const [nextPage, setNextPage] = useState("");
  const [live, setLive] = useState(false);
  const [told, setTold] = useState("");
  const [fault, setFault] = useState("");
  const page = pages[pages.length - 1];
  const reads = session.roles.some((role) => role === "radiologist" || role === "nurse");

  useEffect(() => {
    let gone = false;
    getWorklist({ ...filter, due_before: filter.due_before.replaceAll("-", ""), page, limit: "25" })
      .then((answer) => {
        if (gone) return;
        setRows(answer.studies);
        setNextPage(answer.next_page ?? "");
        setFault("");
      })
      .catch((error: unknown) => !gone && setFault(words.fault(error)));
    return () => {
      gone = true;
    };
  }, [filter, page]);

  const take = useRef((_row: StudyRow): void => undefined);
  take.current = (row) => {
    setRows((now) => merge(now ?? [], row, filter, pages.length === 1));
    const patient = row.patient.slice(0, 8);
    if (row.outcome === "done") setTold(words.say("told_done", patient, row.category || "?"));
    if (row.outcome === "failed") setTold(words.say("told_failed", patient, words.reason(row.reason)));
  };
  useEffect(() => {
    const events = rowEvents(filter.tenant, (row) => take.current(row));
    events.onopen = () => setLive(true);
    events.onerror = () => setLive(false);
    return () => events.close();
  }, [filter.tenant]);

  const move = (by: number) => (): void => {
    const links = [...document.querySelectorAll<HTMLAnchorElement>("tbody a.open")];
    const at = links.indexOf(document.activeElement as HTMLAnchorElement);
    links[Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
  };
  useKeys({ j: move(1), k: move(-1), ArrowDown: move(1), ArrowUp: move(-1) });

  const set = (name: keyof Filter, value: string): void => {
    setFilter({ ...filter, [name]: value });
    setPages([""]);
  };
  const choice = (name: keyof Filter, label: string, values: string[], plain = false) => (
    <label>
      {label}
      <select value={filter[name]} onChange={(event) => set(name, event.currentTarget.value)}>
        <option value="">{words.say("all")}</option>
        {values.map((value) => (
          <option key={value} value={value}>
            {plain ? value : words.term(value)}
          </option>
        ))}
      </select>
    </label>
  );
  return (
    <main id="content" class="worklist">
      <h1>
        {words.say("worklist")}{" "}
        <span class={live ? "live on" : "live"}>{words.say(live ? "live" : "not_live")}</span>
      </h1>
      <form class="filters" onSubmit={(event) => event.preventDefault()}>
        {session.tenants.length > 1 && choice("tenant", words.say("tenant"), session.tenants, true)}
        {choice("priority", words.say("priority"), priorities)}
        {choice("category", words.say("category"), categories, true)}
        {choice("outcome", words.say("outcome"), outcomes)}
        <label>
          {words.say("due_before")}
          <input
            type="date"
            value={filter.due_before}
            onChange={(event) => set("due_before", event.currentTarget.value)}
          />
        </label>
      </form>
      <p class="visually-hidden" aria-live="polite">
        {told}
      </p>
      {fault && (
        <p class="fault" role="alert">
          {fault}
        </p>
      )}
      <div class="scroller">
        <table>
          <thead>
            <tr>
              <th scope="col">{words.say("patient")}</th>
              <th scope="col">{words.say("study_date")}</th>
              <th scope="col">{words.say("priority")}</th>
              <th scope="col">{words.say("category")}</th>
              <th scope="col">{words.say("progress")}</th>
              <th scope="col">{words.say("due")}</th>
              <th scope="col" class="received">
                {words.say("received")}
              </th>
              <th scope="col">{words.say("signed")}</th>
            </tr>
          </thead>
          <tbody>
            {rows?.map((row) => <Row key={row.study_id} row={row} opens={reads} />)}
          </tbody>
        </table>
        {rows?.length === 0 && <p class="faint center">{words.say("no_studies")}</p>}
        {rows === null && !fault && <p class="faint center">{words.say("loading")}</p>}
      </div>
      <nav class="pages" aria-label={words.say("page", pages.length)}>
        <button type="button" disabled={pages.length === 1} onClick={() => setPages(pages.slice(0, -1))}>
          {words.say("previous")}
        </button>
        <span>{words.say("page", pages.length)}</span>
        <button type="button" disabled={!nextPage} onClick={() => setPages([...pages, nextPage])}>
          {words.say("next")}
        </button>
      </nav>
    </main>
  );
}

function Row({ row, opens }: { row: StudyRow; opens: boolean }) {
  const words = useWords();
  const at = `#/studies/${row.study_id}`;
  return (
    <tr class={row.priority === "stat" ? "stat" : ""}>
      <td>
        <a class="open" href={opens ? at : undefined}>
          <code title={row.patient}>{row.patient.slice(0, 8)}</code>
        </a>
      </td>
      <td>{words.date(row.study_date)}</td>
      <td>
        <span class={`badge ${row.priority}`}>{words.term(row.priority)}</span>
      </td>
      <td>{row.category && <span class={`category ${rank(row.category)}`}>{row.category}</span>}</td>
      <td>
        <Progress row={row} />
      </td>
      <td>
        {row.work_up ? words.say("work_up") : words.date(row.due_date)}{" "}
        {row.escalation && row.escalation !== "not_due" && (
          <span class={`badge ${row.escalation}`}>{words.term(row.escalation)}</span>
        )}
      </td>
      <td class="received">{words.time(row.received_at)}</td>
      <td>
        {row.signed_by ? (
          <span title={words.time(row.signed_at)}>{row.signed_by}</span>
        ) : (
          <span class="faint">–</span>
        )}
        {row.edition > 1 && <small> {words.say("edition", row.edition)}</small>}
      </td>
    </tr>
  );
}

// The chain that a study goes through; delivery and team come after the reader has a result.
const chain = ["preprocess", "detection", "malignancy", "followup", "report"];

function Progress({ row }: { row: StudyRow }) {
  const words = useWords();
  if (row.outcome === "failed") {
    return (
      <span class="fault" title={row.reason}>
        {words.term("failed")}: {words.reason(row.reason)}
      </span>
    );
  }
  const of = (stage: string) => row.stages.find((one) => one.stage === stage);
  if (row.outcome === "done") {
    const last = row.stages.reduce((sum, stage) => sum + (stage.seconds || 0), 0);
    return (
      <span class="faint">
        {words.term("done")} · {last.toFixed(0)} s
      </span>
    );
  }
  const parts = chain.map((stage) => (of(stage)?.state === "done" ? 1 : (of(stage)?.fraction ?? 0)));
  const done = (100 * parts.reduce((sum, part) => sum + part, 0)) / chain.length;
  const now = row.stages.find((stage) => stage.state !== "done") ?? row.stages.at(-1);
  return (
    <div class="progress">
      <progress max={100} value={done} aria-label={words.say("progress")} />
      <span>
        {words.term(now?.stage)} {now?.state === "retrying" && words.term("retrying")}
        <small>{words.term(now?.detail)}</small>
      </span>
    </div>
  );
}

/** The rows with a changed one in its place; a new study that fits comes first. */
function merge(rows: StudyRow[], row: StudyRow, filter: Filter, first: boolean): StudyRow[] {
  const at = rows.findIndex((one) => one.study_id === row.study_id);
  if (at >= 0) return rows.with(at, row);
  const fits =
    (!filter.tenant || row.tenant === filter.tenant) &&
    !filter.due_before &&
    (["priority", "category", "outcome"] as const).every((name) => !filter[name] || filter[name] === row[name]);
  return first && fits ? [row, ...rows] : rows;
}
