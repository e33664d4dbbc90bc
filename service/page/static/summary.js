// How the run stands, in a few numbers; and its corpora as a table.

import { element, fill, table } from "./dom.js";
import { ago, compact, decimal, duration, epochs, listed, moment, percent, rate, whole } from "./format.js";
import { lossSeries } from "./losses.js";
import { limitText } from "./run.js";

/** A patch of a corpus's colour, as the plots have it. */
export function swatch({ colour, pattern }, line = false) {
  return element("span", {
    class: line ? "swatch line" : "swatch",
    "data-pattern": pattern || undefined,
    style: { "--colour": colour },
    "aria-hidden": "true",
  });
}

export function drawSummary(place, run) {
  const last = run.reports.at(-1);
  const step = run.step ?? 0;
  const facts = [
    fact(
      "Step",
      `${whole(step)} of ${whole(run.num_steps)}`,
      run.step === null ? "no report yet" : pace(run),
      bar(run),
    ),
    fact(
      "Frontier",
      whole(run.frontier),
      run.frontier >= run.num_steps ? "every step is decided" : "the first step that may still change",
    ),
    fact("Revision", whole(run.revision), revisionSaid(run)),
    fact(
      "Tokens",
      compact(sum(run, run.so_far)),
      `of ${compact(sum(run, run.forecast))}; ${whole(run.global_batch_size)} × ${whole(run.seq_len)} a step`,
    ),
    fact("Loss", decimal(last?.metrics.loss), last ? `reported ${ago(last.time)}` : "none reported"),
    fact("Learning rate", rate(last?.metrics.lr), trainerSaid(run)),
  ];
  fill(place, facts);
}

function fact(name, value, note, extra) {
  return element(
    "div",
    { class: "fact" },
    element("h2", {}, name),
    element("p", { class: "value" }, value),
    extra,
    element("p", { class: "note" }, note),
  );
}

function bar({ step, frontier, num_steps }) {
  const share = (value) => `${(100 * value) / num_steps}%`;
  return element(
    "div",
    { class: "bar", "aria-hidden": "true" },
    element("span", { class: "decided", style: { width: share(frontier) } }),
    element("span", { class: "done", style: { width: share(step ?? 0) } }),
  );
}

const sum = (run, corpora) => run.names.reduce((total, name) => total + (corpora[name]?.tokens ?? 0), 0);

/** Steps a second by the last reports, and how long the rest takes at that. */
function pace({ reports, step, num_steps }) {
  if (step >= num_steps) return "finished";
  const recent = reports.slice(-20);
  const seconds = recent.length > 1 ? (Date.parse(recent.at(-1).time) - Date.parse(recent[0].time)) / 1000 : 0;
  const steps = recent.length > 1 ? recent.at(-1).step - recent[0].step : 0;
  if (seconds <= 0 || steps <= 0) return `${percent(step / num_steps, 1)} done`;
  const speed = steps / seconds;
  const said =
    speed >= 1
      ? `${Number(speed.toPrecision(3))} steps/s`
      : `${speed > 1 / 60 ? `${Number((1 / speed).toPrecision(2))} s` : duration(1 / speed)} a step`;
  return `${said}, ${duration((num_steps - step) / speed)} to go`;
}

function revisionSaid({ revision, revisions }) {
  const found = revisions.find(({ number }) => number === revision);
  return found ? `by ${found.author}, ${ago(found.time)}` : "as the run was made";
}

function trainerSaid({ claim, parent }) {
  if (claim) return `trained by ${claim.trainer}`;
  return parent ? `forked from ${parent.run} at step ${whole(parent.step)}` : "no trainer has claimed the run";
}

export function drawCorpora(place, run) {
  const step = Math.min(run.step ?? 0, run.num_steps - 1);
  const losses = new Map(
    lossSeries(run.reports)
      .filter(({ kind, corpus }) => corpus && kind === "held-out")
      .map(({ corpus, values }) => [corpus, values.at(-1)]),
  );
  const read = run.reports.at(-1)?.counts ?? {};
  const all = Object.values(read).reduce((total, number) => total + number, 0);
  const limited = Object.keys(run.limits ?? {}).length > 0;
  const head = [
    "corpus",
    "target now",
    "read so far",
    "tokens so far → by the end",
    "epochs so far → by the end",
    "first repeats",
    "held-out loss",
    ...(limited ? ["limits"] : []),
  ];
  const rows = run.names.map((name) => {
    const [now, end] = [run.so_far[name], run.forecast[name]];
    return [
      element("span", {}, swatch(run.colours[name]), name),
      percent(weightAt(run, name, step)),
      all ? percent((read[name] ?? 0) / all) : "–",
      `${compact(now?.tokens)} → ${compact(end?.tokens)}`,
      element(
        "span",
        {},
        `${epochs(now?.epochs)} → `,
        element("span", end?.epochs > 1 ? { class: "repeats" } : {}, epochs(end?.epochs)),
      ),
      end?.first_repeat_step === null || !end ? "never" : `step ${whole(end.first_repeat_step)}`,
      decimal(losses.get(name)),
      ...(limited ? [limitText(run.limits[name]) || "none"] : []),
    ];
  });
  fill(place, table("The corpora of the run", head, rows));
}

/** The weight of a corpus at a step, on the line between the two steps of the course around it. */
export function weightAt({ course }, name, step) {
  const weights = course.weights[name] ?? [];
  const after = course.steps.findIndex((at) => at >= step);
  if (after <= 0 || course.steps[after] === step) return weights[Math.max(0, after)] ?? 0;
  const part = (step - course.steps[after - 1]) / (course.steps[after] - course.steps[after - 1]);
  return weights[after - 1] + part * (weights[after] - weights[after - 1]);
}

/** What of the plot wants words: where corpora begin to repeat, and what the lines are. */
export function mixtureNotes(run) {
  const repeats = run.names
    .filter((name) => Number.isInteger(run.forecast[name]?.first_repeat_step))
    .map((name) => `${name} from step ${whole(run.forecast[name].first_repeat_step)}`);
  return [
    element("span", {}, repeats.length ? `▼ Repeats: ${listed(repeats)}.` : "No corpus repeats in this run."),
    run.frontier < run.num_steps && element("span", {}, "Faded: forecast, from the frontier on."),
    run.preview && element("span", {}, "Dashed: with the edit."),
  ];
}

export function latestMetrics({ reports }) {
  const last = reports.at(-1);
  if (!last) return [];
  const rows = Object.entries(last.metrics)
    .sort()
    .map(([name, value]) => [name, value === null ? "not finite" : `${Number(value.toPrecision(6))}`]);
  return [["reported at", `step ${whole(last.step)}, ${moment(last.time)}`], ...rows];
}
