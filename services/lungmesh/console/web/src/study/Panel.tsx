import { useEffect, useRef } from "preact/hooks";
import type { Correction, Nodule, Study } from "../api";
import { useWords } from "../language";
import { Details, Guideline, rank } from "./Details";

/** What one click on a nodule does. */
export type Action = "confirm" | "reject" | "remeasure" | "retype" | "link";

interface Props {
  study: Study;
  selected: string | null;
  mayCorrect: boolean;
  /** Nodules of which a correction is on its way. */
  waiting: Set<string>;
  onSelect(nodule: string): void;
  onAction(action: Action, nodule: Nodule, event: MouseEvent): void;
  onWithdraw(correction: Correction): void;
}

const actions: [Action, string][] = [
  ["confirm", "C"],
  ["reject", "X"],
  ["remeasure", "M"],
  ["retype", "T"],
  ["link", "L"],
];

export function Panel(props: Props) {
  const { study, selected } = props;
  const words = useWords();
  return (
    <aside class="panel" aria-label={words.say("nodules")}>
      <Exam study={study} />
      <h3>
        {words.say("nodules")} ({study.nodules.length})
      </h3>
      {study.nodules.length === 0 && <p class="faint">{words.say("no_nodules")}</p>}
      <ul class="nodules">
        {study.nodules.map((nodule) => (
          <Item key={nodule.nodule_id} nodule={nodule} {...props} chosen={nodule.nodule_id === selected} />
        ))}
      </ul>
      {study.rejected.length > 0 && (
        <>
          <h3>{words.say("rejected")}</h3>
          <ul class="nodules">
            {study.rejected.map((nodule) => (
              <Rejected key={nodule.nodule_id} nodule={nodule} {...props} />
            ))}
          </ul>
        </>
      )}
      <History {...props} />
      <Origin study={study} />
    </aside>
  );
}

function Exam({ study }: { study: Study }) {
  const words = useWords();
  const { next } = study;
  return (
    <section class="exam">
      <h3>{words.say("exam")}</h3>
      {study.exam_categories.map((category) => (
        <Guideline key={category.guideline.name} category={category} />
      ))}
      {next && (
        <p>
          <b>
            {next.work_up ? words.say("work_up") : words.say("next_exam", words.date(next.due_date))}
          </b>{" "}
          <span class="faint">{next.guideline.name}</span>
        </p>
      )}
      {study.qc.map((finding) => (
        <p key={finding.code} class="warning">
          {words.language === "zh" ? finding.message_zh : finding.message_en}
        </p>
      ))}
      {study.priors.flatMap((prior) =>
        (prior.warnings ?? []).map((code) => (
          <p key={prior.study_id + code} class="warning">
            {words.date(prior.study_date)}: {words.term(code)}
          </p>
        )),
      )}
    </section>
  );
}

function Item(props: Props & { nodule: Nodule; chosen: boolean }) {
  const { nodule, chosen, mayCorrect, waiting, onSelect, onAction } = props;
  const busy = waiting.has(nodule.nodule_id);
  const words = useWords();
  const item = useRef<HTMLLIElement>(null);
  useEffect(() => {
    if (chosen) item.current?.firstElementChild?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  const category = nodule.categories[0]?.category;
  return (
    <li ref={item} class={chosen ? "chosen" : ""} data-nodule={nodule.nodule_id}>
      <button
        type="button"
        class="head"
        aria-expanded={chosen}
        onClick={() => onSelect(nodule.nodule_id)}
      >
        <span class="count">{nodule.number}</span>
        <span class="what">
          {words.term(nodule.type)} {words.number(nodule.mean_diameter_mm)} mm
          <small>
            {words.term(nodule.lobe)} · {words.term(nodule.growth)}
          </small>
        </span>
        {busy && (
          <span class="badge waiting" title={words.say("saving", nodule.number)}>
            …
          </span>
        )}
        {nodule.review.status === "confirmed" && (
          <span class="badge good" title={words.term("confirmed")}>
            ✓
          </span>
        )}
        <span class={`category ${rank(category)}`}>{category || "?"}</span>
      </button>
      {chosen && (
        <>
          {mayCorrect && (
            <div class="actions" role="group" aria-label={words.say("corrections")}>
              {actions.map(([action, key]) => (
                <button
                  type="button"
                  key={action}
                  class={action}
                  title={`${words.say(action)} (${key})`}
                  aria-pressed={action === "confirm" ? nodule.review.status === "confirmed" : undefined}
                  disabled={busy || (action === "link" && !props.study.priors.some((one) => one.held))}
                  onClick={(event) => onAction(action, nodule, event)}
                >
                  {words.say(action)}
                </button>
              ))}
            </div>
          )}
          <Details nodule={nodule} />
        </>
      )}
    </li>
  );
}

function Rejected({ nodule, study, mayCorrect, waiting, onSelect, onWithdraw }: Props & { nodule: Nodule }) {
  const words = useWords();
  const reason = openCorrections(study).findLast(
    (one) => one.kind === "reject" && one.nodule_id === nodule.nodule_id,
  );
  return (
    <li class="rejected" data-nodule={nodule.nodule_id}>
      <button type="button" class="head" onClick={() => onSelect(nodule.nodule_id)}>
        <span class="count">{nodule.number}</span>
        <span class="what">
          {words.term(nodule.type)} {words.number(nodule.mean_diameter_mm)} mm
          <small>{words.term(nodule.lobe)}</small>
        </span>
      </button>
      {mayCorrect && reason && (
        <button
          type="button"
          disabled={waiting.has(nodule.nodule_id)}
          onClick={() => onWithdraw(reason)}
        >
          {words.say("restore")}
        </button>
      )}
    </li>
  );
}

/** Corrections that still count: neither withdrawn nor a withdrawal. */
function openCorrections(study: Study): Correction[] {
  const gone = new Set(study.corrections.map((one) => one.withdraws).filter(Boolean));
  return study.corrections.filter(
    (one) => one.kind !== "withdraw" && !gone.has(one.correction_id),
  );
}

function History({ study, mayCorrect, waiting, onWithdraw }: Props) {
  const words = useWords();
  if (study.corrections.length === 0) return null;
  const open = new Set(openCorrections(study).map((one) => one.correction_id));
  const numbers = new Map(
    [...study.nodules, ...study.rejected].map((nodule) => [nodule.nodule_id, nodule.number]),
  );
  return (
    <details class="history">
      <summary>
        {words.say("corrections")} ({study.corrections.length})
      </summary>
      <ol>
        {study.corrections.map((one) => (
          <li key={one.correction_id} class={open.has(one.correction_id) ? "" : "faint"}>
            <span>
              {numbers.get(one.nodule_id) ?? ""} {words.term(one.kind)} {words.term(one.type)}
              <small>
                {one.author}, {words.time(one.at)}
              </small>
            </span>
            {mayCorrect && open.has(one.correction_id) && (
              <button type="button" disabled={waiting.has(one.nodule_id)} onClick={() => onWithdraw(one)}>
                {words.say("withdraw")}
              </button>
            )}
          </li>
        ))}
      </ol>
    </details>
  );
}

function Origin({ study }: { study: Study }) {
  const words = useWords();
  return (
    <details class="history">
      <summary>{words.say("models")}</summary>
      <p class="faint">
        {study.models.map((model) => `${model.name} ${model.version}`).join(" · ")}
      </p>
    </details>
  );
}
