// Numbers and times as people read them.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const COMPACT = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const NOTHING = "–";

export const whole = (value) => (value === null || value === undefined ? NOTHING : WHOLE.format(value));

/** 1234567 → 1.23M */
export const compact = (value) => (value === null || value === undefined ? NOTHING : COMPACT.format(value));

/** A share of 1 as per cent: 0.2 → 20 %, with as many digits as it has, `digits` at most. */
export function percent(share, digits = 2) {
  if (share === null || share === undefined) return NOTHING;
  return `${Number((100 * share).toFixed(digits))} %`;
}

export const decimal = (value, digits = 4) => (value === null || value === undefined ? NOTHING : value.toFixed(digits));

/** Learning rates: 0.00032 → 3.2e-4 */
export const rate = (value) =>
  value === null || value === undefined ? NOTHING : Number(value.toPrecision(3)).toExponential().replace("e+", "e");

export function epochs(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value === 0 || value >= 100) return WHOLE.format(value);
  return value < 0.1 ? `${Number(value.toPrecision(2))}` : value.toFixed(value < 10 ? 2 : 1);
}

/** Seconds as the two largest units of time. */
export function duration(seconds) {
  const units = [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ];
  const first = Math.max(
    0,
    units.findIndex(([, size]) => seconds >= size),
  );
  const [[name, size], next] = [units[seconds < 1 ? 3 : first], units[first + 1]];
  const count = Math.floor(seconds / size);
  const rest = next && seconds >= 1 ? Math.floor((seconds - count * size) / next[1]) : 0;
  return rest ? `${count} ${name} ${rest} ${next[0]}` : `${count} ${name}`;
}

export function ago(time, now = Date.now()) {
  const seconds = (now - Date.parse(time)) / 1000;
  return seconds < 10 ? "just now" : `${duration(seconds).replace(/ \d+ \w+$/, "")} ago`;
}

export const moment = (time) => new Date(time).toLocaleString("sv-SE", { dateStyle: "short", timeStyle: "short" });

/** ["a", "b", "c"] → "a, b and c" */
export function listed(items) {
  return items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;
}
