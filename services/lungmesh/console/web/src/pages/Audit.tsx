import { useEffect, useState } from "preact/hooks";
import { getAudit } from "../api";
import { useWords } from "../language";
import { Table } from "./Table";

type Entries = Awaited<ReturnType<typeof getAudit>>["entries"];

export function Audit() {
  const words = useWords();
  const [pages, setPages] = useState<string[]>([""]);
  const [entries, setEntries] = useState<Entries>([]);
  const [next, setNext] = useState("");
  const [fault, setFault] = useState("");
  const page = pages[pages.length - 1];
  useEffect(() => {
    getAudit(page).then(
      (answer) => {
        setEntries(answer.entries);
        setNext(answer.next_page ?? "");
      },
      (error: unknown) => setFault(words.fault(error)),
    );
  }, [page]);
  return (
    <main id="content" class="operations">
      <h1>{words.say("audit")}</h1>
      {fault && (
        <p class="fault" role="alert">
          {fault}
        </p>
      )}
      <Table caption={words.say("page", pages.length)} rows={entries} />
      <nav class="pages">
        <button type="button" disabled={pages.length === 1} onClick={() => setPages(pages.slice(0, -1))}>
          {words.say("previous")}
        </button>
        <button type="button" disabled={!next} onClick={() => setPages([...pages, next])}>
          {words.say("next")}
        </button>
      </nav>
    </main>
  );
}
