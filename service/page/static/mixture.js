// Mixtures being edited: shares in whole parts per 10^9, as the service counts them, so that they always sum to 1.

export const UNIT = 1_000_000_000;
const GRAIN = 100_000; // what the others give or take comes in hundredths of a per cent

/** {name: weight} → {name: parts}; the largest takes what rounding leaves. */
export function fromWeights(names, weights) {
  const parts = Object.fromEntries(names.map((name) => [name, Math.round((weights[name] ?? 0) * UNIT)]));
  return settle(parts, names, UNIT);
}

/** {name: parts} → {name: weight}, without those of which there is nothing. */
export function toWeights(parts) {
  return Object.fromEntries(
    Object.entries(parts)
      .filter(([, value]) => value > 0)
      .map(([name, value]) => [name, value / UNIT]),
  );
}

/** The most `name` can have while the locked ones keep what they have. */
export function room(parts, locked, name) {
  const held = Object.keys(parts).filter((other) => other !== name && locked.has(other));
  return UNIT - held.reduce((sum, other) => sum + parts[other], 0);
}

/**
 * The mixture with `name` at `wanted` parts, or as near as the locked ones allow. The others share the rest in the
 * proportion they had, evenly if they had nothing; where all others are locked, nothing changes.
 */
export function withShare(parts, locked, name, wanted) {
  const free = Object.keys(parts).filter((other) => other !== name && !locked.has(other));
  if (free.length === 0) return parts;
  const all = room(parts, locked, name);
  const value = Math.min(Math.max(0, Math.round(wanted)), all);
  const before = free.reduce((sum, other) => sum + parts[other], 0);
  const shared = { ...parts, [name]: value };
  for (const other of free) {
    const share = before > 0 ? parts[other] / before : 1 / free.length;
    shared[other] = Math.floor(((all - value) * share) / GRAIN + 1e-6) * GRAIN; // down: the sum stays below
  }
  return settle(shared, free, all - value);
}

/** Lets the largest of `names` take what their sum lacks of `total`. */
function settle(parts, names, total) {
  const largest = names.reduce((best, name) => (parts[name] > parts[best] ? name : best), names[0]);
  const sum = names.reduce((so_far, name) => so_far + parts[name], 0);
  return { ...parts, [largest]: parts[largest] + total - sum };
}

export const same = (one, other) =>
  Object.keys(one).length === Object.keys(other).length && Object.keys(one).every((name) => one[name] === other[name]);
