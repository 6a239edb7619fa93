import type { ComponentChildren } from "preact";
import type { Category, Nodule } from "../api";
import { useWords, type Words } from "../language";
import { Sparkline } from "./Sparkline";

/** Everything that the mesh says of one nodule. */
export function Details({ nodule }: { nodule: Nodule }) {
  const words = useWords();
  const hand = (...fields: string[]): ComponentChildren =>
    fields.some((field) => nodule.review.measured_by_hand.includes(field)) && (
      <span class="badge hand">{words.say("by_hand")}</span>
    );
  return (
    <div class="details">
      <dl>
        <Row label={words.say("mean")}>
          <b>{words.number(nodule.mean_diameter_mm)} mm</b>{" "}
          {hand("mean_diameter_mm", "long_axis_mm", "short_axis_mm")}
        </Row>
        <Row label={words.say("long_short")}>
          {words.number(nodule.long_axis_mm)} × {words.number(nodule.short_axis_mm)} mm
        </Row>
        <Row label={words.say("volume")}>
          {words.number(nodule.volume_mm3, 0)} mm³ {hand("volume_mm3")}
        </Row>
        {nodule.type !== "solid" && nodule.solid_mean_diameter_mm > 0 && (
          <Row label={words.say("solid_part")}>
            {words.number(nodule.solid_mean_diameter_mm)} mm,{" "}
            {words.number(nodule.solid_volume_mm3, 0)} mm³ {hand("solid_mean_diameter_mm")}
          </Row>
        )}
        {nodule.mean_hu !== undefined && (
          <Row label={words.say("density")}>{words.number(nodule.mean_hu, 0)} HU</Row>
        )}
        <Row label={words.say("detection_score")}>{words.number(nodule.score, 2)}</Row>
      </dl>
      <Course nodule={nodule} />
      <h4>{words.say("categories")}</h4>
      {nodule.categories.map((category) => (
        <Guideline key={category.guideline.name} category={category} />
      ))}
      <Risks nodule={nodule} />
    </div>
  );
}

function Row({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Course({ nodule }: { nodule: Nodule }) {
  const words = useWords();
  const last = nodule.priors?.[0];
  return (
    <>
      <h4>
        {words.say("course")} <span class={`growth ${nodule.growth}`}>{words.term(nodule.growth)}</span>
      </h4>
      {nodule.history.length === 0 && <p class="faint">{words.say("no_history")}</p>}
      {nodule.shown_earlier && (
        <p class="fault" role="note">
          {words.say("shown_earlier")}
        </p>
      )}
      <Sparkline nodule={nodule} />
      {last && (
        <dl>
          <Row label={`${words.say("change")}, ${words.date(last.study_date)}`}>
            {signed(last.diameter_change_mm, 1)} mm, {signed(last.volume_change_percent, 0)} %
          </Row>
          {last.volume_doubling_time_days !== undefined && (
            <Row label={words.say("vdt")}>
              <b>{words.say("days", last.volume_doubling_time_days.toFixed(0))}</b>{" "}
              <small class="line">{interval(words, last)}</small>
            </Row>
          )}
          {!!last.volume_error_percent && (
            <>
              <Row label={words.say("growth_probability")}>
                {words.number((last.growth_probability ?? 0) * 100, 0)} %
              </Row>
              <Row label={words.say("error")}>
                {words.say("within", last.volume_error_percent.toFixed(0))}
              </Row>
            </>
          )}
        </dl>
      )}
      {last?.warnings?.map((code) => (
        <p key={code} class="warning">
          {words.term(code)}
        </p>
      ))}
    </>
  );
}

const signed = (value: number | undefined, digits: number): string =>
  value === undefined ? "–" : `${value > 0 ? "+" : ""}${value.toFixed(digits)}`;

function interval(
  words: Words,
  match: { volume_doubling_time_low_days?: number; volume_doubling_time_high_days?: number },
): string {
  const [low, high] = [match.volume_doubling_time_low_days, match.volume_doubling_time_high_days];
  if (low === undefined && high === undefined) return "";
  const bound = (value: number | undefined): string => value?.toFixed(0) ?? words.say("no_bound");
  return words.say("interval", bound(low), bound(high));
}

export function Guideline({ category }: { category: Category }) {
  const words = useWords();
  const management = words.language === "zh" ? category.management_zh : category.management_en;
  return (
    <details class="guideline">
      <summary>
        <span class={`category ${rank(category.category)}`}>{category.category || "?"}</span>{" "}
        {category.guideline.name} <span class="faint">{category.guideline.version}</span>
        <span class="management">{management}</span>
      </summary>
      {category.row && (
        <p>
          {words.say("row")}: {category.row}
        </p>
      )}
      {!!category.facts?.length && (
        <p class="faint">
          {category.facts
            .map((fact) => `${words.term(fact.name)} ${words.term(fact.value)} ${words.term(fact.unit)}`)
            .join(" · ")}
        </p>
      )}
      {!!category.needs?.length && (
        <p class="warning">{words.say("needs", category.needs.map((n) => words.term(n)).join(", "))}</p>
      )}
      {category.alternatives?.map((other, i) => (
        <p key={i} class="faint">
          {words.say(
            "would",
            other.category ?? "?",
            words.term(other.change.name),
            `${words.term(other.change.value)} ${words.term(other.change.unit)}`.trim(),
          )}
        </p>
      ))}
      <p class="faint">{category.source}</p>
    </details>
  );
}

/** How urgent a category looks: low, middle or high. */
export function rank(category: string | undefined): string {
  if (!category) return "none";
  if (/^(4|high)/i.test(category)) return "high";
  return /^(3|0|middle)/i.test(category) ? "middle" : "low";
}

function Risks({ nodule }: { nodule: Nodule }) {
  const words = useWords();
  const percent = (value: number): string => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
  const present = nodule.signs?.filter((sign) => sign.present) ?? [];
  return (
    <>
      <h4>{words.say("risk")}</h4>
      {nodule.reader_score && (
        <p>
          {words.say("reader_score")}: <b>{percent(nodule.reader_score.probability)}</b>
          <span class="note">{nodule.reader_score.basis}</span>
        </p>
      )}
      {nodule.risks?.map((risk) => (
        <p key={risk.model.name}>
          {risk.model.name}:{" "}
          <b>
            {risk.probability !== undefined
              ? percent(risk.probability)
              : `${percent(risk.low)} – ${percent(risk.high)}`}
          </b>
          {!!risk.missing?.length && (
            <span class="note">
              {words.say("lacking", risk.missing.map((name) => words.term(name)).join(", "))}
            </span>
          )}
          {!!risk.outside_intended_use?.length && (
            <span class="note">{words.say("outside", risk.outside_intended_use.join("; "))}</span>
          )}
        </p>
      ))}
      {present.length > 0 && (
        <p>
          {words.say("signs")}: {present.map((sign) => words.term(sign.name)).join(", ")}
        </p>
      )}
    </>
  );
}
