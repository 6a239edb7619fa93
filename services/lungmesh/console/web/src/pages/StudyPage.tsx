import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { eventsOf, getStudy, type Nodule, type ReadStudy, type Session, type Study } from "../api";
import { useKeys } from "../keys";
import { useWords } from "../language";
import { rank } from "../study/Details";
import { Link, Remeasure, Retype, send, Sign } from "../study/dialogs";
import { Panel, type Action } from "../study/Panel";
import { Report } from "../study/Report";
import { measuredAt, Viewer, type ViewerHandle } from "../viewer/Viewer";
import { startEngine } from "../viewer/engine";
import type { Point } from "../viewer/grid";

export const warmUp = startEngine;

type Open = "remeasure" | "retype" | "link" | "report" | "sign" | null;

export function StudyPage({ id, session }: { id: string; session: Session }) {
  const words = useWords();
  const [study, setStudy] = useState<Study | null>(null);
  const [prior, setPrior] = useState<Study | null>(null);
  const [priorId, setPriorId] = useState("");
  const [chosen, setChosen] = useState<string | null>(null);
  const [open, setOpen] = useState<Open>(null);
  const [busy, setBusy] = useState(false);
  const [told, setTold] = useState("");
  const [fault, setFault] = useState("");
  const viewer = useRef<ViewerHandle>(null);
  const reads = session.roles.includes("radiologist");

  const read = useCallback(async (): Promise<void> => {
    try {
      setStudy(await getStudy(id));
      setFault("");
    } catch (error) {
      setFault(words.fault(error));
    }
  }, [id]);

  useEffect(() => {
    setStudy(null);
    setPrior(null);
    setChosen(null);
    void read();
  }, [id]);

  const held = study?.priors.filter((one) => one.held) ?? [];
  const wanted = (held.find((one) => one.study_id === priorId) ?? held[0])?.study_id;
  useEffect(() => {
    setChosen((now) => now ?? study?.nodules[0]?.nodule_id ?? null);
  }, [study]);
  useEffect(() => {
    if (wanted) getStudy(wanted).then(setPrior, () => setPrior(null));
  }, [wanted]);

  useFresh(study, (row) => {
    setStudy((now) => now && { ...now, row: { ...now.row, ...row } });
    if (row.edition !== study?.row.edition || row.outcome !== study?.row.outcome) void read();
  });

  const all = study ? [...study.nodules, ...study.rejected] : [];
  const selected = all.find((nodule) => nodule.nodule_id === chosen) ?? null;
  const listed = study?.nodules.find((nodule) => nodule.nodule_id === chosen) ?? null;

  const step = (by: number): void => {
    const list = study?.nodules ?? [];
    const at = list.findIndex((nodule) => nodule.nodule_id === chosen);
    const to = list[(at + by + list.length) % list.length];
    if (to) setChosen(to.nodule_id);
  };

  const correct = async (nodule: string, number: number, correction: Record<string, unknown>) => {
    setBusy(true);
    setOpen(null);
    try {
      setStudy(await send(id, nodule, correction));
      setTold(words.say("saved", words.term(String(correction.kind)), number));
      setFault("");
    } catch (error) {
      setFault(words.fault(error));
    } finally {
      setBusy(false);
    }
  };

  const act = (action: Action, nodule: Nodule): void => {
    if (!reads || busy) return;
    if (action === "link" && held.length === 0) return;
    if (action === "reject" && nodule.nodule_id === chosen) step(1);
    if (action === "confirm" || action === "reject") {
      void correct(nodule.nodule_id, nodule.number, { kind: action });
    } else setOpen(action);
  };

  const on = (action: Action) => (): void => {
    if (listed) act(action, listed);
  };
  const view = (then: (viewer: ViewerHandle) => void) => (): void => {
    if (viewer.current) then(viewer.current);
  };
  useKeys({
    ArrowUp: view((v) => v.scroll(-1)),
    ArrowDown: view((v) => v.scroll(1)),
    PageUp: view((v) => v.scroll(-10)),
    PageDown: view((v) => v.scroll(10)),
    Home: view((v) => v.end(false)),
    End: view((v) => v.end(true)),
    "1": view((v) => v.window("lung")),
    "2": view((v) => v.window("mediastinum")),
    "3": view((v) => v.window("bone")),
    "4": view((v) => v.layout("axial")),
    "5": view((v) => v.layout("mpr")),
    "6": view((v) => v.layout("compare")),
    s: view((v) => v.tool("scroll")),
    w: view((v) => v.tool("window")),
    p: view((v) => v.tool("pan")),
    z: view((v) => v.tool("zoom")),
    d: view((v) => v.tool("length")),
    b: view((v) => v.tool("bidirectional")),
    o: view((v) => v.toggleOutlines()),
    k: view((v) => v.toggleLink()),
    "0": view((v) => v.reset()),
    n: () => step(1),
    "shift+n": () => step(-1),
    c: on("confirm"),
    x: on("reject"),
    m: on("remeasure"),
    t: on("retype"),
    l: on("link"),
    r: () => setOpen("report"),
    g: () => reads && setOpen("sign"),
    u: () => location.assign("#/"),
  });

  if (!study?.series) {
    return (
      <main id="content" class="center">
        {fault ? (
          <p class="fault">{fault}</p>
        ) : (
          <p>{words.say(study ? "not_ready" : "loading")}</p>
        )}
        <a href="#/">{words.say("back")}</a>
      </main>
    );
  }
  const close = (): void => setOpen(null);
  const dialog = { onClose: close };
  return (
    <main id="content" class="study">
      <Header study={study} reads={reads} onReport={() => setOpen("report")} onSign={() => setOpen("sign")} />
      <Viewer
        study={study as ReadStudy}
        prior={prior?.series ? (prior as ReadStudy) : null}
        priors={held}
        onPrior={setPriorId}
        selected={selected}
        priorCenter={centerIn(prior, selected)}
        onSelect={setChosen}
        handle={viewer}
      />
      <Panel
        study={study}
        selected={chosen}
        mayCorrect={reads}
        busy={busy}
        onSelect={setChosen}
        onAction={act}
        onWithdraw={(one) =>
          void correct(one.nodule_id, all.find((n) => n.nodule_id === one.nodule_id)?.number ?? 0, {
            kind: "withdraw",
            withdraws: one.correction_id,
          })
        }
      />
      <div class="toast" aria-live="polite">
        {fault ? <p class="fault">{fault}</p> : told && <p key={told + study.row.edition}>{told}</p>}
      </div>
      {open === "report" && <Report study={study} {...dialog} />}
      {open === "sign" && (
        <Sign
          study={study}
          local={session.local !== false}
          {...dialog}
          onSigned={() => {
            close();
            setTold(words.say("signed_now"));
            void read();
          }}
        />
      )}
      {listed && open === "remeasure" && (
        <Remeasure
          nodule={listed}
          drawn={viewer.current?.drawnAxes() ?? null}
          {...dialog}
          onSend={(what) => void correct(listed.nodule_id, listed.number, what)}
        />
      )}
      {listed && open === "retype" && (
        <Retype
          nodule={listed}
          {...dialog}
          onSend={(what) => void correct(listed.nodule_id, listed.number, what)}
        />
      )}
      {listed && open === "link" && (
        <Link
          nodule={listed}
          priors={held}
          {...dialog}
          onSend={(what) => void correct(listed.nodule_id, listed.number, what)}
        />
      )}
    </main>
  );
}

interface HeaderProps {
  study: Study;
  reads: boolean;
  onReport(): void;
  onSign(): void;
}

function Header({ study, reads, onReport, onSign }: HeaderProps) {
  const words = useWords();
  const { row } = study;
  return (
    <header class="studyhead">
      <a href="#/" title={`${words.say("back")} (U)`} aria-label={words.say("back")}>
        ←
      </a>
      <h1>
        {words.say("patient")} <code title={row.patient}>{row.patient.slice(0, 8)}</code>
        <small>
          {words.date(row.study_date)} · {words.say("edition", row.edition)}
        </small>
      </h1>
      <span class={`category big ${rank(row.category)}`}>{row.category || "?"}</span>
      <span class="signed">
        {row.signed_by
          ? words.say("signed_as", row.signed_by, words.time(row.signed_at), row.edition)
          : words.say(study.signatures.length > 0 ? "sign_again" : "not_signed")}
      </span>
      <button type="button" title={`${words.say("report")} (R)`} onClick={onReport}>
        {words.say("report")}
      </button>
      {reads && (
        <button type="button" class="primary" title={`${words.say("sign")} (G)`} onClick={onSign}>
          {words.say("sign")}
        </button>
      )}
    </header>
  );
}

/** Where the nodule was measured in the prior, if it is known there. */
function centerIn(prior: Study | null, nodule: Nodule | null): Point | null {
  const past = nodule?.history.find((one) => one.study_id === prior?.row.study_id);
  const other = prior?.nodules.find((one) => one.nodule_id === past?.nodule_id);
  return other && prior?.series ? measuredAt(prior.series, other) : null;
}

/** Tells of every change of the study's row while the page is open. */
function useFresh(study: Study | null, then: (row: Study["row"]) => void): void {
  const last = useRef(then);
  last.current = then;
  const [id, tenant] = [study?.row.study_id, study?.row.tenant];
  useEffect(() => {
    if (!id || !tenant) return;
    const events = new EventSource(eventsOf(tenant));
    events.addEventListener("study", (event) => {
      const row = JSON.parse((event as MessageEvent<string>).data) as Study["row"];
      if (row.study_id === id) last.current(row);
    });
    return () => events.close();
  }, [id, tenant]);
}
