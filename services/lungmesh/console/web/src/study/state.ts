// One study as the page shows it: newest answer, live changes, and what the reader said, in order.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { correct, getStudy, Refused, rowEvents, sessionNow, type Study } from "../api";

/** What is said of a nodule. */
export type Body = { kind: string } & Record<string, unknown>;

/** A correction on its way. */
export interface Said {
  correction_id: string;
  nodule_id: string;
  number: number;
  body: Body;
  session: string;
}

interface Told {
  /** An edition came that no correction of this page made. */
  onEdition(edition: number): void;
  onSaved(said: Said): void;
  onFault(error: unknown, said: Said | null): void;
}

export interface LiveStudy {
  study: Study | null;
  /** Corrections that the server has not answered yet. */
  waiting: Said[];
  say(nodule: { nodule_id: string; number: number }, body: Body): void;
  read(): void;
}

// After an answer of the network's or "try again": the same correction, by the same id.
const retryMs = [1000, 3000, 9000];
const restMs = 300;

/** The study `id`, kept fresh while the page is open. */
export function useStudy(id: string, told: Told): LiveStudy {
  const [study, setStudy] = useState<Study | null>(null);
  const [waiting, setWaiting] = useState<Said[]>([]);
  const tell = useRef(told);
  tell.current = told;
  const now = useRef<Study | null>(null);
  const queue = useRef<Said[]>([]);
  const asked = useRef({ last: 0, taken: 0 });
  /** Ids of what was said on this page. */
  const said = useRef(new Set<string>());

  /** Takes an answer unless a newer one is shown: answers may come in another order than they were asked for. */
  const take = useCallback((answer: Study, order: number): void => {
    const shown = now.current;
    if (shown) {
      const newer =
        answer.row.revision - shown.row.revision || answer.row.edition - shown.row.edition;
      if (newer < 0 || (newer === 0 && order < asked.current.taken)) return;
    }
    asked.current.taken = order;
    now.current = answer;
    setStudy(answer);
  }, []);

  const reading = useRef({ busy: false, again: false });
  const read = useCallback(async (): Promise<void> => {
    if (reading.current.busy) {
      reading.current.again = true;
      return;
    }
    reading.current.busy = true;
    do {
      reading.current.again = false;
      const order = ++asked.current.last;
      try {
        const answer = await getStudy(id);
        if (isOthers(now.current, answer, said.current)) tell.current.onEdition(answer.row.edition);
        take(answer, order);
      } catch (error) {
        tell.current.onFault(error, null);
      }
      if (reading.current.again) await pause(restMs);
    } while (reading.current.again);
    reading.current.busy = false;
  }, [id]);

  useEffect(() => void read(), [id]);
  useRows(study, () => void read());

  const sending = useRef(false);
  const sendAll = useCallback(async (): Promise<void> => {
    if (sending.current) return;
    sending.current = true;
    while (queue.current.length > 0) {
      const next = queue.current[0];
      const order = ++asked.current.last;
      try {
        take(await sent(id, next), order);
        tell.current.onSaved(next);
      } catch (error) {
        tell.current.onFault(error, next);
      }
      queue.current = queue.current.slice(1);
      setWaiting(queue.current);
    }
    sending.current = false;
  }, [id]);

  const say: LiveStudy["say"] = ({ nodule_id, number }, body) => {
    const twice = queue.current.some(
      (one) => one.nodule_id === nodule_id && JSON.stringify(one.body) === JSON.stringify(body),
    );
    if (twice) return;
    const correction_id = crypto.randomUUID();
    said.current.add(correction_id);
    const session = sessionNow();
    queue.current = [...queue.current, { correction_id, nodule_id, number, body, session }];
    setWaiting(queue.current);
    void sendAll();
  };
  useEffect(() => {
    if (waiting.length === 0) return;
    const stay = (event: Event): void => event.preventDefault();
    addEventListener("beforeunload", stay);
    return () => removeEventListener("beforeunload", stay);
  }, [waiting.length]);
  return { study, waiting, say, read: () => void read() };
}

/** Whether an answer is a newer edition that this page's own corrections do not explain. */
function isOthers(shown: Study | null, answer: Study, said: Set<string>): boolean {
  if (!shown?.row.edition) return false;
  if (answer.row.revision > shown.row.revision) return true;
  if (answer.row.edition <= shown.row.edition) return false;
  const known = new Set(shown.corrections.map((one) => one.correction_id));
  const fresh = answer.corrections.filter((one) => !known.has(one.correction_id));
  return fresh.length === 0 || fresh.some((one) => !said.has(one.correction_id));
}

async function sent(study: string, said: Said): Promise<Study> {
  const { correction_id, nodule_id, body, session } = said;
  for (let tried = 0; ; tried++) {
    try {
      return await correct(study, { correction_id, nodule_id, ...body }, session);
    } catch (error) {
      const passing = !(error instanceof Refused) || error.status === 503;
      if (!passing || tried === retryMs.length) throw error;
      await pause(retryMs[tried]);
    }
  }
}

const pause = (ms: number): Promise<void> => new Promise((then) => setTimeout(then, ms));

/** Tells when the study's row has changed. */
function useRows(study: Study | null, then: () => void): void {
  const last = useRef(then);
  last.current = then;
  const [id, tenant] = [study?.row.study_id, study?.row.tenant];
  useEffect(() => {
    if (!id || !tenant) return;
    const events = rowEvents(tenant, (row) => {
      if (row.study_id === id) last.current();
    });
    return () => events.close();
  }, [id, tenant]);
}
