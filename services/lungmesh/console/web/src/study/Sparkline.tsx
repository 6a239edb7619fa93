import type { Nodule } from "../api";
import { useWords } from "../language";

const [width, height, pad] = [220, 64, 8];

/** A nodule's volume over its exams, on a logarithmic axis: constant doubling is a straight line. */
export function Sparkline({ nodule }: { nodule: Nodule }) {
  const words = useWords();
  const sizes = [...nodule.history]
    .map((past) => ({ days: -past.interval_days, volume: past.volume_mm3, date: past.study_date }))
    .concat({ days: 0, volume: nodule.volume_mm3, date: "" })
    .filter((size) => size.volume > 0)
    .sort((a, b) => a.days - b.days);
  if (sizes.length < 2) return null;
  const logs = sizes.map((size) => Math.log2(size.volume));
  // At least one doubling high, so that noise does not look like growth.
  const middle = (Math.max(...logs) + Math.min(...logs)) / 2;
  const half = Math.max(0.5, (Math.max(...logs) - Math.min(...logs)) / 2);
  const x = (days: number): number =>
    pad + ((days - sizes[0].days) / -sizes[0].days) * (width - 2 * pad);
  const y = (log: number): number => pad + ((middle + half - log) / (2 * half)) * (height - 2 * pad);
  const points = sizes.map((size, i) => [x(size.days), y(logs[i])] as const);
  const told = sizes
    .map((size) => `${size.date ? words.date(size.date) : words.say("current")}: ${size.volume.toFixed(0)} mm³`)
    .join("; ");
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} role="img" aria-label={told}>
      <title>{told}</title>
      <polyline points={points.map((point) => point.join()).join(" ")} />
      {points.map(([cx, cy], i) => (
        <circle key={i} cx={cx} cy={cy} r={i === points.length - 1 ? 4 : 3} />
      ))}
    </svg>
  );
}
