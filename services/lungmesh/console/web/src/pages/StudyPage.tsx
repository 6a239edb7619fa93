import { useEffect, useRef, useState } from "preact/hooks";
import { getStudy, type Edition, type Nodule, type ReadStudy, type Session, type Study } from "../api";
import { useKeys } from "../keys";
import { useWords } from "../language";
import { rank } from "../study/Details";
import { Link, Remeasure, Retype, Sign } from "../study/dialogs";
import { Panel, type Action } from "../study/Panel";
import { Report } from "../study/Report";
import { useStudy, type Body } from "../study/state";
import { measuredAt, Viewer, type ViewerHandle } from "../viewer/Viewer";
import { startEngine } from "../viewer/engine";
import type { Point } from "../viewer/grid";
import type { Axes } from "../viewer/tools";

export const warmUp = startEngine;

type Open =
  // A dialog is of the nodule, and of the state of the study, that it was opened for.
  | { what: "remeasure" | "retype" | "link"; nodule: string; drawn: Axes | null }
  | { what: "sign"; seen: Edition }
  | { what: "report" }
  | null;

export function StudyPage({ id, session }: { id: string; session: Session }) {
  const words = useWords();
  const [prior, setPrior] = useState<Study | null>(null);
  const [priorId, setPriorId] = useState("");
  const [chosen, setChosen] = useState<string | null>(null);
  const [open, setOpen] = useState<Open>(null);
  const [told, setTold] = useState("");
  const [fault, setFault] = useState("");
  const viewer = useRef<ViewerHandle>(null);
  const reads = session.roles.includes("radiologist");
  const { study, waiting, say, read } = useStudy(id, {
    onEdition: (edition) => setTold(words.say("edition_came", edition)),
    onSaved: (said) => {
      setTold(words.say("saved", words.term(said.body.kind), said.number));
      setFault("");
    },
    onFault: (error, said) => {
      const why = words.fault(error);
      setFault(said ? words.say("not_saved", said.number, words.term(said.body.kind), why) : why);
    },
  });

  const held = study?.priors.filter((one) => one.held) ?? [];
  const wanted = (held.find((one) => one.study_id === priorId) ?? held[0])?.study_id;
  useEffect(() => {
    setChosen((now) => now ?? study?.nodules[0]?.nodule_id ?? null);
  }, [study]);
  useEffect(() => {
    if (!wanted) return;
    let gone = false;
    getStudy(wanted).then(
      (answer) => !gone && setPrior(answer),
      () => !gone && setPrior(null),
    );
    return () => {
      gone = true;
    };
  }, [wanted]);

  const all = study ? [...study.nodules, ...study.rejected] : [];
  const selected = all.find((nodule) => nodule.nodule_id === chosen) ?? null;
  const listed = study?.nodules.find((nodule) => nodule.nodule_id === chosen) ?? null;
  const shownAt = useShownAt(chosen);

  const about = open && "nodule" in open ? open.nodule : null;
  const subject = study?.nodules.find((nodule) => nodule.nodule_id === about) ?? null;
  useEffect(() => {
    if (!about || subject) return;
    setOpen(null);
    setFault(words.say("nodule_gone"));
  }, [about, subject === null]);

  const step = (by: number): void => {
    const going = waiting.filter((one) => one.body.kind === "reject").map((one) => one.nodule_id);
    const list = (study?.nodules ?? []).filter(
      (nodule) => nodule.nodule_id === chosen || !going.includes(nodule.nodule_id),
    );
    const at = list.findIndex((nodule) => nodule.nodule_id === chosen);
    const to = list[(at + by + list.length) % list.length];
    if (to) setChosen(to.nodule_id);
  };

  const act = (action: Action, nodule: Nodule, event: UIEvent): void => {
    // The second press of a double click would meet what came under the pointer after the first.
    if (!reads || event.detail > 1) return;
    if (event.timeStamp < shownAt.current) {
      setTold(words.say("just_changed"));
      return;
    }
    if (action === "link" && held.length === 0) return;
    if (action === "confirm" && nodule.review.status === "confirmed") return;
    if (action === "reject" && nodule.nodule_id === chosen) step(1);
    if (action === "confirm" || action === "reject") say(nodule, { kind: action });
    else {
      const drawn = viewer.current?.drawnAxes(nodule) ?? null;
      setOpen({ what: action, nodule: nodule.nodule_id, drawn });
    }
  };
  const sign = (): void => {
    if (!reads || !study) return;
    if (waiting.length > 0) setTold(words.say("sign_waits"));
    else setOpen({ what: "sign", seen: study.row });
  };

  const on = (action: Action) => (event: UIEvent): void => {
    if (listed) act(action, listed, event);
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
    r: () => setOpen({ what: "report" }),
    g: sign,
    u: () => (waiting.length > 0 ? setTold(words.say("sign_waits")) : location.assign("#/")),
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
  const ofNodule = (nodule: Nodule) => ({
    key: nodule.nodule_id,
    nodule,
    onClose: close,
    onSend: (body: Body) => (close(), say(nodule, body)),
  });
  return (
    <main id="content" class="study">
      <Header study={study} reads={reads} onReport={() => setOpen({ what: "report" })} onSign={sign} />
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
        waiting={new Set(waiting.map((one) => one.nodule_id))}
        onSelect={setChosen}
        onAction={act}
        onWithdraw={(one) =>
          say(
            { nodule_id: one.nodule_id, number: all.find((n) => n.nodule_id === one.nodule_id)?.number ?? 0 },
            { kind: "withdraw", withdraws: one.correction_id },
          )
        }
      />
      <div class="toast" aria-live="polite">
        {fault && <p class="fault">{fault}</p>}
        {waiting.length > 0 && <p>{words.say("saving", waiting.length)}</p>}
        {!fault && waiting.length === 0 && told && <p key={told + study.row.edition}>{told}</p>}
      </div>
      {open?.what === "report" && <Report study={study} {...dialog} />}
      {open?.what === "sign" && (
        <Sign
          study={study}
          seen={open.seen}
          local={session.local !== false}
          {...dialog}
          onSigned={() => {
            close();
            setTold(words.say("signed_now"));
            setFault("");
            read();
          }}
        />
      )}
      {subject && open?.what === "remeasure" && (
        <Remeasure {...ofNodule(subject)} drawn={open.drawn} />
      )}
      {subject && open?.what === "retype" && <Retype {...ofNodule(subject)} />}
      {subject && open?.what === "link" && <Link {...ofNodule(subject)} priors={held} />}
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

/** When the choice last came on the screen, by the clock of events: what was pressed before meant another. */
function useShownAt(chosen: string | null): { readonly current: number } {
  const at = useRef(0);
  const of = useRef<string | null>(null);
  if (of.current !== chosen) {
    of.current = chosen;
    at.current = Infinity;
  }
  useEffect(() => {
    let gone = false;
    requestAnimationFrame(() =>
      setTimeout(() => {
        if (!gone) at.current = performance.now();
      }),
    );
    return () => {
      gone = true;
    };
  }, [chosen]);
  return at;
}
