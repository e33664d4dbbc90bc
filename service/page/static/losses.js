// The losses among what the trainer reports: loss, eval/<corpus>/loss (held out) and loss/<corpus>.

import { rate, whole } from "./format.js";

/** The losses among what was reported, as [{label, corpus, kind, steps, values}]. */
export function lossSeries(reports) {
  const series = new Map();
  for (const { step, metrics } of reports) {
    for (const [name, value] of Object.entries(metrics)) {
      const found = lossName(name);
      if (!found || !Number.isFinite(value)) continue;
      const { steps, values } = series.get(name) ?? series.set(name, { ...found, steps: [], values: [] }).get(name);
      // a held-out loss is reported again until the next evaluation
      if (found.kind === "held-out" && values.at(-1) === value) continue;
      steps.push(step);
      values.push(value);
    }
  }
  return [...series.values()];
}

function lossName(name) {
  if (name === "loss") return { label: "training", kind: "train", corpus: null };
  const heldOut = /^eval\/(.+)\/loss$/.exec(name);
  if (heldOut) return { label: `${heldOut[1]} held-out`, kind: "held-out", corpus: heldOut[1] };
  const train = /^loss\/(.+)$/.exec(name);
  return train ? { label: `${train[1]} training`, kind: "train", corpus: train[1] } : null;
}

/** Rows of a table of the losses at a few of the reported steps. */
export function lossRows(reports, most = 24) {
  const series = lossSeries(reports);
  const stride = Math.max(1, Math.ceil(reports.length / most));
  const shown = reports.filter((_, index) => index % stride === 0 || index === reports.length - 1);
  const rows = shown.map(({ step, metrics }) => [
    whole(step),
    ...series.map(({ steps, values }) => {
      const place = steps.findLastIndex((at) => at <= step);
      return place < 0 ? "–" : values[place].toFixed(4);
    }),
    rate(metrics.lr),
  ]);
  return { head: ["step", ...series.map(({ label }) => label), "learning rate"], rows };
}
