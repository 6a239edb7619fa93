import { useEffect, useState } from "preact/hooks";
import { getStudy, Refused, sign, type Edition, type Nodule, type Prior, type Study } from "../api";
import { useWords } from "../language";
import { Modal } from "../Modal";
import type { Body } from "./state";

interface Props {
  nodule: Nodule;
  onClose(): void;
  onSend(correction: Body): void;
}

export function Remeasure({
  nodule,
  drawn,
  onClose,
  onSend,
}: Props & { drawn: { long: number; short: number } | null }) {
  const words = useWords();
  const [long, setLong] = useState((drawn?.long ?? nodule.long_axis_mm).toFixed(1));
  const [short, setShort] = useState((drawn?.short ?? nodule.short_axis_mm).toFixed(1));
  const [a, b] = [Number(long), Number(short)];
  const good = a >= b && b >= 0.1 && a <= 300;
  const field = (label: string, value: string, set: (text: string) => void) => (
    <label>
      {label}
      <input
        type="number"
        step="0.1"
        min="0.1"
        max="300"
        required
        value={value}
        onInput={(event) => set(event.currentTarget.value)}
      />
    </label>
  );
  return (
    <Modal title={words.say("remeasure_title", nodule.number)} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (good) {
            onSend({ kind: "remeasure", measurement: { long_axis_mm: a, short_axis_mm: b } });
          }
        }}
      >
        <p>{words.say(drawn ? "remeasure_drawn" : "remeasure_hint")}</p>
        {field(words.say("long_axis"), long, setLong)}
        {field(words.say("short_axis"), short, setShort)}
        <p class={good ? "faint" : "fault"} role={good ? undefined : "alert"}>
          {good ? `${words.say("mean")}: ${((a + b) / 2).toFixed(1)} mm` : words.say("axis_fault")}
        </p>
        <Buttons good={good} onClose={onClose} />
      </form>
    </Modal>
  );
}

const types = [
  "solid",
  "part_solid",
  "non_solid",
  "calcified",
  "fat_containing",
  "airway",
  "atypical_cyst",
];

export function Retype({ nodule, onClose, onSend }: Props) {
  const words = useWords();
  return (
    <Modal title={words.say("retype_title", nodule.number)} onClose={onClose}>
      <div class="choices">
        {types.map((type) => (
          <button
            type="button"
            key={type}
            aria-pressed={type === nodule.type}
            disabled={type === nodule.type}
            onClick={() => onSend({ kind: "retype", type })}
          >
            {words.term(type)}
          </button>
        ))}
      </div>
      <form method="dialog">
        <button>{words.say("cancel")}</button>
      </form>
    </Modal>
  );
}

export function Link({ nodule, priors, onClose, onSend }: Props & { priors: Prior[] }) {
  const words = useWords();
  const [exam, setExam] = useState(priors[0].study_id);
  const [prior, setPrior] = useState<Study | null>(null);
  const [fault, setFault] = useState("");
  useEffect(() => {
    let gone = false;
    setFault("");
    getStudy(exam).then(
      (answer) => !gone && setPrior(answer),
      (error: unknown) => !gone && setFault(words.fault(error)),
    );
    return () => {
      gone = true;
    };
  }, [exam]);
  const shown = prior?.row.study_id === exam ? prior : null;
  const linked = new Set(nodule.history.map((past) => past.nodule_id));
  return (
    <Modal title={words.say("link_title", nodule.number)} onClose={onClose}>
      <label>
        {words.say("link_exam")}
        <select value={exam} onChange={(event) => setExam(event.currentTarget.value)}>
          {priors.map((one) => (
            <option key={one.study_id} value={one.study_id}>
              {words.date(one.study_date)}
            </option>
          ))}
        </select>
      </label>
      {fault && <p class="fault">{fault}</p>}
      {!shown && !fault && <p class="faint">{words.say("loading")}</p>}
      {shown?.nodules.length === 0 && <p>{words.say("link_none")}</p>}
      <div class="choices">
        {shown?.nodules.map((other) => {
          const is = linked.has(other.nodule_id);
          return (
            <button
              type="button"
              key={other.nodule_id}
              aria-pressed={is}
              onClick={() =>
                onSend({
                  kind: is ? "unlink" : "link",
                  other: { study_id: exam, nodule_id: other.nodule_id },
                })
              }
            >
              {other.number}: {words.term(other.type)} {words.number(other.mean_diameter_mm)} mm,{" "}
              {words.term(other.lobe)}
              {is && ` · ${words.say("unlink")}`}
            </button>
          );
        })}
      </div>
      <form method="dialog">
        <button>{words.say("cancel")}</button>
      </form>
    </Modal>
  );
}

interface SignProps {
  study: Study;
  /** What the reader had before them when they chose to sign. */
  seen: Edition;
  /** Whether the user's password is kept here; else the provider's fresh login counts. */
  local: boolean;
  onClose(): void;
  onSigned(): void;
}

export function Sign({ study, seen, local, onClose, onSigned }: SignProps) {
  const words = useWords();
  const [password, setPassword] = useState("");
  const [fault, setFault] = useState("");
  const [busy, setBusy] = useState(false);
  const changed = study.row.edition !== seen.edition || study.row.revision !== seen.revision;
  const send = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (busy || changed) return;
    setBusy(true);
    try {
      await sign(study.row.study_id, password, seen);
      onSigned();
    } catch (error) {
      if (error instanceof Refused && error.code === "login_too_old") {
        const back = encodeURIComponent(`/#/studies/${study.row.study_id}`);
        location.assign(`/auth/oidc?fresh=1&return=${back}`);
      }
      setFault(words.fault(error));
      setBusy(false);
    }
  };
  return (
    <Modal title={words.say("sign_title", seen.edition)} onClose={onClose}>
      <form onSubmit={(event) => void send(event)}>
        {changed && <p class="warning">{words.say("edition_came", study.row.edition)}</p>}
        <p>{words.say(local ? "sign_hint" : "sign_hint_provider")}</p>
        {local && (
          <label>
            {words.say("password")}
            <input
              type="password"
              autocomplete="current-password"
              required
              value={password}
              onInput={(event) => setPassword(event.currentTarget.value)}
            />
          </label>
        )}
        {fault && (
          <p class="fault" role="alert">
            {fault}
          </p>
        )}
        <Buttons good={!busy && !changed && (password !== "" || !local)} onClose={onClose} save={words.say("sign")} />
      </form>
    </Modal>
  );
}

function Buttons({ good, onClose, save }: { good: boolean; onClose(): void; save?: string }) {
  const words = useWords();
  return (
    <p class="buttons">
      <button type="button" onClick={onClose}>
        {words.say("cancel")}
      </button>
      <button class="primary" disabled={!good}>
        {save ?? words.say("save")}
      </button>
    </p>
  );
}
