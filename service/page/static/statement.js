// What an edit would do, in plain words and a small table; and why it cannot be done.

import { element, table } from "./dom.js";
import { compact, epochs, listed, percent, whole } from "./format.js";

/** Elements that say what changes and from which step, from the answer to a dry run. */
export function describe({ run, preview, body, scheduled, kept = [], dropped = [] }) {
  const names = run.names.filter((name) => name in preview.after);
  const phase = body.mixture ? body : body.schedule.phases[0];
  return [
    element("h3", {}, "What will change"),
    element("p", { class: "statement" }, change(body.effective_step, phase, scheduled, names)),
    element("p", {}, unchanged(run, body, kept, dropped)),
    element("p", {}, repeating(names, preview)),
    Object.keys(run.limits ?? {}).length > 0 && element("p", {}, "It keeps to every limit of the run."),
    element("div", { class: "scroll" }, byTheEnd(names, preview)),
  ];
}

function byTheEnd(names, { before: now, after: then }) {
  const rows = names.map((name) => {
    const [before, after] = [now[name], then[name]];
    const tokens = fromTo(compact(before.tokens), compact(after.tokens));
    return [name, tokens, difference(before.tokens, after.tokens), fromTo(epochs(before.epochs), epochs(after.epochs))];
  });
  return table(
    "Each corpus by the end of the run, as scheduled and with the edit",
    ["by the end", "tokens", "change", "epochs"],
    rows,
  );
}

const fromTo = (before, after) => element("span", {}, `${before} → `, element("b", {}, after));

function change(step, { mixture, ramp }, scheduled, names) {
  const how = ramp
    ? `, ${ramp.shape === "linear" ? "linearly" : "by a cosine"} over ${whole(Number.parseInt(ramp.length, 10))} steps`
    : "";
  const moved = names
    .map((name) => [name, scheduled[name] ?? 0, mixture[name] ?? 0])
    .filter(([, before, after]) => Math.abs(before - after) > 1e-9)
    .map(([name, before, after]) => `${name} goes from ${percent(before)} to ${percent(after)}`);
  return `From step ${whole(step)} on${how}: ${moved.length ? listed(moved) : "the mixture of that step stays"}.`;
}

function unchanged(run, { effective_step: step }, kept, dropped) {
  const starts = (phases) => listed(phases.slice(0, 5).map(({ start }) => whole(Number.parseInt(start, 10))));
  const later = kept.length
    ? ` From step ${whole(Number.parseInt(kept[0].start, 10))} on the schedule goes on as planned.`
    : dropped.length
      ? ` What was planned at step ${starts(dropped)}${dropped.length > 5 ? " and later" : ""} is replaced: the mixture stays to the end of the run.`
      : "";
  return `Nothing changes below step ${whole(step)}, which is ${whole(step - run.frontier)} steps beyond the frontier.${later}`;
}

function repeating(names, { before, after }) {
  const at = (forecast) => forecast?.first_repeat_step ?? null;
  const said = names
    .filter((name) => at(before[name]) !== at(after[name]))
    .map((name) => {
      const [then, now] = [at(before[name]), at(after[name])];
      if (now === null) return `${name} no longer repeats (it would have from step ${whole(then)})`;
      return `${name} first repeats at step ${whole(now)} (${then === null ? "so far never" : `so far ${whole(then)}`})`;
    });
  return said.length ? `${listed(said)}.` : "No corpus begins to repeat earlier or later than planned.";
}

function difference(before, after) {
  if (before === after) return "±0";
  const share = before ? (100 * (after - before)) / before : Infinity;
  if (!Number.isFinite(share)) return "new";
  return `${share > 0 ? "+" : "−"}${Math.abs(share) < 10 ? Math.abs(share).toFixed(1) : Math.abs(share).toFixed(0)} %`;
}

/** Why an edit was refused, from the fields of the problem. */
export function describeProblem(error) {
  const { kind, body } = error;
  const items = {
    limits: () => (body.limits ?? []).map(limitBroken),
    "invalid-schedule": () => (body.problems ?? []).map(({ message, place }) => `${message} (${place})`),
    "invalid-request": () => (body.problems ?? []).map(({ message, place }) => `${message} (${place})`),
  }[kind]?.() ?? [error.message];
  const title =
    {
      limits: "This breaks limits of the run:",
      repetition: "A corpus would be repeated more often than it may:",
      scope: "Your token may look, but not edit:",
    }[kind] ?? `${body.title ?? "It cannot be done"}:`;
  return element(
    "div",
    { class: "wrong", role: "alert" },
    element("p", {}, title),
    element(
      "ul",
      {},
      items.map((text) => element("li", {}, text)),
    ),
  );
}

function limitBroken({ corpus, limit, allowed, found, step }) {
  const words = { min: ["has", "at least"], max: ["has", "at most"], max_change: ["changes by", "at most"] }[limit];
  return `${corpus} ${words[0]} ${percent(found)} at step ${whole(step)}, allowed is ${words[1]} ${percent(allowed)}`;
}
