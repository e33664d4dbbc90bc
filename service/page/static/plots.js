// What the plots show, as plotly.js takes it: pure functions from the data of a run to {data, layout}.
//
// Colours come from the page's style sheet, so that plots follow light and dark. Beyond the frontier everything is
// forecast and lies under a veil; what an edit would change is drawn over it, dashed.

import { compact, percent, rate, whole } from "./format.js";
import { lossSeries } from "./losses.js";

const LABEL_PX = 15; // the height of a row of labels above a plot

/** The colours of the page as it looks now. */
export function theme(style = getComputedStyle(document.documentElement)) {
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(
    ["paper", "ink", "muted", "grid", "accent", "frontier", "veil", "edit"].map((name) => [name, colour(name)]),
  );
}

/** Target above, what was read below, the learning rate beneath both; the steps are the same. */
export function mixturePlot(run, look, narrow) {
  const { reports, course, names } = run;
  const rates = reports.filter((report) => Number.isFinite(report.metrics.lr));
  const rows = [{ axis: "y", title: "target", size: 3 }];
  if (reports.length) rows.push({ axis: "y2", title: "realised", size: 2 });
  if (rates.length) rows.push({ axis: "y3", title: narrow ? "rate" : "learning<br>rate", size: 1 });
  const places = domains(rows);
  const said = labels(run, look);
  const data = [
    ...names.map((name) => area(run, look, name, "y", course.steps, course.weights[name] ?? [], "linear")),
    ...(reports.length ? realised(run, look) : []),
    ...(rates.length ? [rateLine(rates, look)] : []),
    ...repeats(run, look),
  ];
  const layout = {
    ...base(run, look, narrow),
    height: (narrow ? 84 : 92) * rows.reduce((sum, row) => sum + row.size, 0) + 90,
    shapes: [...marks(run, look, places), ...(run.preview ? previewBorders(run, look) : [])],
    annotations: said,
  };
  for (const { axis, domain, title } of places) {
    const scale = axis === "y3" ? rateScale(rates, look) : shares(look);
    layout[axis.replace("y", "yaxis")] = {
      ...scale,
      domain,
      title: { text: title, standoff: 6, font: { size: 12, color: look.muted } },
    };
  }
  layout.margin = { ...layout.margin, l: 68, t: 18 + LABEL_PX * said.length };
  layout.xaxis.anchor = places.at(-1).axis;
  return { data, layout };
}

/** How often each corpus has been gone through, or its tokens: what was and what is forecast. */
export function coursePlot(run, look, narrow, key) {
  const { course, preview, names } = run;
  const lines = (from, extra) =>
    names.map((name) => ({
      name,
      x: from.steps,
      y: from[key][name] ?? [],
      text: (from[key][name] ?? []).map(key === "epochs" ? (value) => value.toFixed(2) : compact),
      mode: "lines",
      line: { color: look.of(name).colour, width: 2, dash: look.dash(name) },
      hovertemplate: `${escaped(name)} %{text}<extra></extra>`,
      ...extra,
    }));
  const data = lines(course, {});
  if (preview) {
    const first = Math.max(
      0,
      preview.course.steps.findIndex((step) => step >= preview.effective_step),
    );
    const tail = {
      steps: preview.course.steps.slice(first),
      [key]: Object.fromEntries(names.map((name) => [name, (preview.course[key][name] ?? []).slice(first)])),
    };
    data.push(
      ...lines(tail, { hoverinfo: "skip", hovertemplate: undefined }).map((line) => ({
        ...line,
        line: { ...line.line, dash: "4px,4px", width: 2 },
      })),
    );
  }
  const layout = {
    ...base(run, look, narrow),
    height: 250,
    shapes: marks(run, look, [{ domain: [0, 1] }]),
    yaxis: { ...upright(look), rangemode: "tozero", exponentformat: "B" },
  };
  const most = Math.max(...names.map((name) => course[key][name]?.at(-1) ?? 0));
  if (key === "epochs" && most > 0.5) layout.shapes.push(level(1, look)); // read once
  return { data, layout };
}

/** The training loss, and every loss that was reported by name: eval/<corpus>/loss and loss/<corpus>. */
export function lossPlot(run, look, narrow) {
  const series = lossSeries(run.reports);
  const data = series.map(({ label, corpus, kind, steps, values }) => ({
    name: label,
    x: steps,
    y: values,
    mode: steps.length > 40 ? "lines" : "lines+markers",
    marker: { size: 5 },
    connectgaps: false,
    line: {
      color: corpus ? look.of(corpus).colour : look.ink,
      width: corpus ? 2 : 1.5,
      dash: !corpus || (kind === "held-out" && run.names.includes(corpus)) ? "solid" : "dot",
    },
    hovertemplate: `${escaped(label)} %{y:.4f}<extra></extra>`,
  }));
  const layout = {
    ...base(run, look, narrow),
    height: 250,
    shapes: marks({ ...run, preview: null }, look, [{ domain: [0, 1] }], false),
    yaxis: { ...upright(look), fixedrange: narrow },
  };
  const [first, last] = run.range ?? [0, run.reports.at(-1)?.step || 1];
  layout.xaxis.range = [first, last];
  // the steep beginning would press all the rest flat
  const shown = series.flatMap(({ steps, values }) =>
    values.filter((_, at) => steps[at] >= first + (last - first) / 20 && steps[at] <= last),
  );
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  if (shown.length > 3 && high > low) layout.yaxis.range = [low - 0.06 * (high - low), high + 0.06 * (high - low)];
  return { data, layout };
}

/** [{start, end, shares}]: what was read between one report and the next. */
export function realisedShares(reports, names) {
  const found = [];
  let before = { step: 0, counts: {} };
  for (const report of reports) {
    const read = names.map((name) => (report.counts[name] ?? 0) - (before.counts[name] ?? 0));
    const sum = read.reduce((total, number) => total + number, 0);
    if (report.step > before.step && sum > 0 && read.every((number) => number >= 0)) {
      const shares = Object.fromEntries(names.map((name, index) => [name, read[index] / sum]));
      found.push({ start: before.step, end: report.step, shares });
    }
    before = report;
  }
  return found;
}

// -- parts

function base(run, look, narrow) {
  return {
    autosize: true,
    margin: { l: 52, r: narrow ? 10 : 18, t: 16, b: 34 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", size: 12, color: look.ink },
    showlegend: false,
    hovermode: "x unified",
    hoversubplots: "axis",
    hoverlabel: { bgcolor: look.paper, bordercolor: look.grid, font: { color: look.ink } },
    dragmode: narrow ? false : "zoom",
    uirevision: `${run.id} ${run.range}`,
    xaxis: {
      range: run.range ?? [0, run.num_steps],
      gridcolor: look.grid,
      zeroline: false,
      tickformat: run.num_steps >= 10_000 ? "~s" : ",d",
      hoverformat: ",d",
      nticks: narrow ? 5 : 10,
      title: { text: "step", standoff: 4, font: { size: 11, color: look.muted } },
      fixedrange: narrow,
    },
  };
}

const upright = (look) => ({ gridcolor: look.grid, zeroline: false, fixedrange: true, automargin: false, nticks: 5 });

const shares = (look) => ({
  ...upright(look),
  range: [0, 1],
  tickvals: [0, 0.25, 0.5, 0.75, 1],
  tickformat: ".0%",
});

/** From nothing to the highest rate, which is all that need be named. */
function rateScale(reports, look) {
  const top = reports.reduce((highest, report) => Math.max(highest, report.metrics.lr), 0) || 1;
  return { ...upright(look), range: [0, 1.08 * top], tickvals: [0, top / 2, top], ticktext: ["0", "", rate(top)] };
}

/** Gives each row its part of the height, the first at the top. */
function domains(rows) {
  const gap = 0.05;
  const sizes = rows.reduce((sum, row) => sum + row.size, 0);
  const unit = (1 - gap * (rows.length - 1)) / sizes;
  let top = 1;
  return rows.map((row) => {
    const domain = [Math.max(0, top - unit * row.size), top];
    top = domain[0] - gap;
    return { ...row, domain };
  });
}

function area(run, look, name, axis, x, y, shape) {
  const { colour, pattern } = look.of(name);
  return {
    name,
    x,
    y,
    yaxis: axis,
    stackgroup: axis,
    mode: "lines",
    line: { width: 0.8, color: look.paper, shape },
    fillcolor: colour,
    ...(pattern
      ? { fillpattern: { shape: pattern, bgcolor: colour, fgcolor: look.paper, fgopacity: 0.7, size: 6 } }
      : {}),
    hovertemplate: `${escaped(name)} %{y:.2~%}<extra></extra>`,
  };
}

function realised(run, look) {
  const read = realisedShares(run.reports, run.names);
  const x = [...read.map((part) => part.start), ...read.slice(-1).map((part) => part.end)];
  return run.names.map((name) => {
    const y = [...read, ...read.slice(-1)].map((part) => part.shares[name]);
    const made = area(run, look, name, "y2", x, y, "hv");
    return { ...made, hovertemplate: `${escaped(name)} read %{y:.2~%}<extra></extra>` };
  });
}

function rateLine(reports, look) {
  return {
    name: "learning rate",
    x: reports.map((report) => report.step),
    y: reports.map((report) => report.metrics.lr),
    yaxis: "y3",
    mode: reports.length > 1 ? "lines" : "markers",
    line: { color: look.ink, width: 1.5 },
    hovertemplate: "learning rate %{y:.3~g}<extra></extra>",
  };
}

/** A mark at the top where a corpus begins to repeat. */
function repeats(run, look) {
  return run.names
    .filter((name) => Number.isInteger(run.forecast[name]?.first_repeat_step))
    .map((name) => ({
      name: `${name} repeats`,
      x: [run.forecast[name].first_repeat_step],
      y: [1],
      mode: "markers",
      cliponaxis: false,
      marker: { symbol: "triangle-down", size: 13, color: look.of(name).colour, line: { width: 1.5, color: look.ink } },
      hovertemplate: `${escaped(name)} begins to repeat at step %{x:,d}<extra></extra>`,
    }));
}

/** The borders between the areas as the edit would have them, from its step on; shapes, since the veil hides traces. */
function previewBorders({ names, preview: { course, effective_step: first } }, look) {
  const from = course.steps.findIndex((step) => step >= first);
  const sums = course.steps.map(() => 0);
  return names.slice(0, -1).flatMap((name) => {
    course.steps.forEach((_, at) => (sums[at] += course.weights[name]?.[at] ?? 0));
    const path = course.steps
      .slice(from)
      .map((step, at) => `${at ? "L" : "M"}${step},${sums[from + at].toFixed(5)}`)
      .join("");
    const shape = { type: "path", xref: "x", yref: "y", path, layer: "above", fillcolor: "rgba(0,0,0,0)" };
    return [
      { ...shape, line: { color: look.paper, width: 4 } }, // seen on any area
      { ...shape, name: "edit", line: { color: look.ink, width: 2, dash: "6px,4px" } },
    ];
  });
}

/** Lines for now, the frontier, switchpoints and the edit; bands for ramps; the veil over what is forecast. */
function marks(run, look, places, ahead = true) {
  const across = (step, line) => ({
    type: "line",
    xref: "x",
    yref: "paper",
    x0: step,
    x1: step,
    y0: 0,
    y1: 1,
    line,
    layer: "above",
  });
  const band = (x0, x1, fillcolor, layer) => ({
    type: "rect",
    xref: "x",
    yref: "paper",
    x0,
    x1,
    y0: 0,
    y1: 1,
    fillcolor,
    line: { width: 0 },
    layer,
  });
  const found = [];
  if (ahead && run.frontier < run.num_steps) {
    for (const { domain } of places.filter((place) => place.axis !== "y2" && place.axis !== "y3")) {
      found.push({ ...band(run.frontier, run.num_steps, look.veil, "above"), y0: domain[0], y1: domain[1] });
    }
  }
  const [top] = places;
  for (const { start, end, ramp } of run.switchpoints.slice(-200)) {
    found.push(across(start, { color: look.ink, width: 1, dash: "1px,3px" }));
    if (ramp)
      found.push({ ...band(start, end, look.ink, "above"), opacity: 0.08, y0: top.domain[0], y1: top.domain[1] });
  }
  found.push(across(run.frontier, { color: look.frontier, width: 2, dash: "7px,4px" }));
  if (run.step !== null) found.push(across(run.step, { color: look.accent, width: 2 }));
  if (run.preview) found.push(across(run.preview.effective_step, { color: look.edit, width: 2, dash: "2px,3px" }));
  return found;
}

/** Words above the lines, each in a row of its own so that none covers another. */
function labels(run, look) {
  const [first, last] = run.range ?? [0, run.num_steps];
  const said = [
    run.preview && [run.preview.effective_step, "edit", look.edit],
    [run.frontier, "frontier", look.frontier],
    run.step !== null && [run.step, "now", look.accent],
  ].filter((item) => item && item[0] >= first && item[0] <= last);
  return said.map(([step, text, color], row) => ({
    x: step,
    xref: "x",
    y: 1,
    yref: "paper",
    yshift: 12 + LABEL_PX * row,
    yanchor: "middle",
    xanchor: step < first + (last - first) * 0.75 ? "left" : "right",
    text: `<b>${text}</b> ${whole(step)}`,
    showarrow: false,
    font: { color, size: 12 },
  }));
}

const level = (y, look) => ({
  type: "line",
  xref: "paper",
  x0: 0,
  x1: 1,
  y0: y,
  y1: y,
  line: { color: look.muted, width: 1, dash: "2px,2px" },
});

/** Text in plotly.js may hold tags. */
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/%\{/g, "% {");

// -- the same in words and numbers

/** Rows of a table that says what the plot of the mixture shows: a few steps, target and realised of each corpus. */
export function mixtureRows({ course, reports, names }, most = 24) {
  const stride = Math.max(1, Math.ceil(course.steps.length / most));
  const read = realisedShares(reports, names);
  return course.steps
    .map((step, index) => [step, index])
    .filter(([, index]) => index % stride === 0 || index === course.steps.length - 1)
    .map(([step, index]) => {
      const part = read.find(({ start, end }) => start <= step && step < end);
      return [
        whole(step),
        ...names.map((name) => percent(course.weights[name]?.[index] ?? 0)),
        ...names.map((name) => (part ? percent(part.shares[name]) : "–")),
      ];
    });
}

export function courseRows({ course, names }, most = 24) {
  const stride = Math.max(1, Math.ceil(course.steps.length / most));
  return course.steps
    .map((step, index) => [step, index])
    .filter(([, index]) => index % stride === 0 || index === course.steps.length - 1)
    .map(([step, index]) => [
      whole(step),
      ...names.map((name) => `${course.epochs[name][index].toFixed(2)} / ${compact(course.tokens[name][index])}`),
    ]);
}
