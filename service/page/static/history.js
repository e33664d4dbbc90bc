// The revisions of a run, newest first: what changed from which step, who made it, why, and what became of it.

import { element, fill } from "./dom.js";
import { ago, listed, moment, percent, whole } from "./format.js";
import { swatch } from "./summary.js";

const SHOWN = 20;

export function drawHistory(place, more, run) {
  const all = [...run.revisions].reverse();
  const shown = more.dataset.all ? all : all.slice(0, SHOWN);
  more.hidden = shown.length === all.length;
  more.textContent = `Show all ${all.length} revisions`;
  fill(
    place,
    shown.map((revision) => entry(revision, run)),
    shown.length === all.length && base(run),
  );
}

function entry(revision, run) {
  const gone = revision.superseded !== null;
  const mark = gone
    ? element("span", { class: "mark gone" }, "superseded")
    : revision.number === run.revision && element("span", { class: "mark" }, "in force");
  return element(
    "li",
    { class: gone ? "superseded" : "", "data-number": revision.number },
    element(
      "p",
      { class: "title" },
      element("b", {}, `Revision ${revision.number}`),
      mark,
      ` from step ${whole(revision.effective_step)}`,
    ),
    phases(revision, run),
    changes(revision).map((text) => element("p", {}, text)),
    element("p", { class: "reason" }, revision.reason),
    element(
      "p",
      { class: "note" },
      `${revision.author}, `,
      element("time", { datetime: revision.time, title: moment(revision.time) }, ago(revision.time)),
      `, made against ${revision.parent || "the base"}`,
    ),
    gone && element("p", { class: "note" }, `Never came into force: ${revision.superseded}.`),
  );
}

function base(run) {
  const mark = run.revision === 0 && element("span", { class: "mark" }, "in force");
  const from = run.parent && `forked from ${run.parent.run} at step ${whole(run.parent.step)}, `;
  return element(
    "li",
    {},
    element("p", { class: "title" }, element("b", {}, "Base"), mark, " as the run was made"),
    element(
      "p",
      { class: "note" },
      from,
      element("time", { datetime: run.created, title: moment(run.created) }, ago(run.created)),
    ),
  );
}

function phases({ schedule, effective_step: first }, run) {
  return (schedule?.phases ?? []).map(({ start, mixture, ramp }) => {
    const step = Number.parseInt(start, 10);
    const shares = Object.entries(mixture).sort(([, one], [, other]) => other - one);
    return element(
      "p",
      { class: "phase" },
      step !== first && `from step ${whole(step)}: `,
      shares.map(([name, weight]) =>
        element(
          "span",
          { class: "share" },
          run.colours[name] && swatch(run.colours[name]),
          `${name} ${percent(weight)}`,
        ),
      ),
      ramp &&
        `${ramp.shape === "linear" ? "linearly" : "by a cosine"} over ${whole(Number.parseInt(ramp.length, 10))} steps`,
    );
  });
}

/** What a revision does beside the mixture, in words. */
function changes({ corpora, global_batch_size: size }) {
  const verbs = {
    add: "is added",
    remove: "is removed",
    grow: "grows",
    quarantine: "has samples put into quarantine",
    skip: "skips samples",
    rename: "takes the place of another",
    split: "is split off",
  };
  const said = Object.entries(corpora ?? {}).map(
    ([name, change]) => `${name} ${listed(Object.keys(change).map((verb) => verbs[verb] ?? verb))}.`,
  );
  return size ? [...said, `${whole(size)} samples a step.`] : said;
}
