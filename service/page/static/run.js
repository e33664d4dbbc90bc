// What the page knows of one run, read from the service.

import { get, pages, pathOf } from "./api.js";
import { coloursOf } from "./colours.js";
import { percent } from "./format.js";
import { lossSeries } from "./losses.js";

const POINTS = 240; // steps of a course
const REPORTS = 500; // reports of a run of any length

/** Everything that is shown of a run. */
export async function load(id) {
  const path = pathOf(id);
  const [head, schedule, forecast, revisions, { reports }] = await Promise.all([
    get(path),
    get(`${path}/schedule`),
    get(`${path}/forecast`, { points: POINTS }),
    pages(`${path}/revisions`, "revisions"),
    get(`${path}/progress`, { points: REPORTS }),
  ]);
  const so_far = await get(`${path}/forecast`, { step: head.step ?? 0 });
  const names = inOrder(Object.keys(head.corpora), forecast);
  return {
    ...head,
    names,
    colours: coloursOf(names, schedule.changes, evaluated(reports)),
    phases: schedule.phases,
    changes: schedule.changes,
    batchSizes: schedule.batch_sizes,
    switchpoints: switchpoints(schedule),
    forecast: forecast.corpora,
    course: forecast.course,
    so_far: so_far.corpora,
    revisions,
    reports,
  };
}

/** The run after a report: its head, what was reported since, what was read so far. Null where the rest is old too. */
export async function advance(run) {
  const path = pathOf(run.id);
  const last = run.reports.at(-1)?.step ?? 0;
  const [head, { reports }] = await Promise.all([get(path), get(`${path}/progress`, { start: last })]);
  if (head.revision !== run.revision || run.reports.length + reports.length > 2 * REPORTS) return null;
  const so_far = await get(`${path}/forecast`, { step: head.step ?? 0 });
  const kept = run.reports.filter((report) => report.step < last);
  const all = [...kept, ...reports];
  const colours = { ...coloursOf(run.names, run.changes, evaluated(all)) };
  return { ...run, ...head, colours, so_far: so_far.corpora, reports: all };
}

/** The names that losses were reported under, corpora of the run or not. */
function evaluated(reports) {
  const found = lossSeries(reports).map(({ corpus }) => corpus);
  return [...new Set(found.filter((corpus) => corpus !== null))].sort();
}

/** The corpora as they are stacked: the largest part of the run first. */
function inOrder(names, { corpora }) {
  const size = (name) => corpora[name]?.samples ?? 0;
  return names.sort((one, other) => size(other) - size(one) || (one < other ? -1 : 1));
}

const stepsOf = (text) => Number.parseInt(text, 10); // canonical times are steps, like "600ba"

function switchpoints({ phases }) {
  return phases.slice(1).map(({ start, mixture, ramp }) => {
    const first = stepsOf(start);
    return { start: first, end: first + (ramp ? stepsOf(ramp.length) : 0), mixture, ramp };
  });
}

/** The limits of a corpus: the least and the most it may have, and by how much one edit may change it. */
export function limitText(limits) {
  if (!limits) return "";
  const said = [
    limits.min !== undefined && `≥ ${percent(limits.min)}`,
    limits.max !== undefined && `≤ ${percent(limits.max)}`,
    limits.max_change !== undefined && `± ${percent(limits.max_change)}`,
  ].filter(Boolean);
  return said.join(", ");
}
