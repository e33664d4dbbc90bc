// The page: which run is shown, keeping it current, and drawing each part anew when the data has changed.
//
// One object holds what is known of the run (see run.js); every part draws itself from it. Events only say that
// something has changed: what it is now is read from the service, so the page is right after any break.

import { pages, pathOf, Problem, token } from "./api.js";
import { byId, element, fill, table } from "./dom.js";
import { EditForm } from "./edit.js";
import { follow } from "./events.js";
import { whole } from "./format.js";
import { drawHistory } from "./history.js";
import { lossRows, lossSeries } from "./losses.js";
import { courseRows, coursePlot, lossPlot, mixturePlot, mixtureRows, theme } from "./plots.js";
import { Provenance } from "./provenance.js";
import { advance, load } from "./run.js";
import { drawCorpora, drawSummary, latestMetrics, swatch, mixtureNotes } from "./summary.js";

const LIST_MS = 15_000; // how often the list of runs is read again
const RETRY_MS = 3_000; // when what could not be read is asked for again
const NARROW = matchMedia("(max-width: 640px)");

const view = { runs: [], id: null, run: null, preview: null, stop: null };

const edit = new EditForm({
  onPreview(preview) {
    view.preview = preview;
    drawPlots();
  },
  onAccepted: () => reload(),
});
const provenance = new Provenance();

// -- which run

async function listRuns() {
  view.runs = await pages("v1/runs", "runs");
  const select = byId("run");
  const options = [...view.runs].reverse().map((run) => {
    const at = run.step === null ? "not begun" : `${whole(run.step)} of ${whole(run.num_steps)}`;
    return element("option", { value: run.id }, `${run.name} — ${at}`);
  });
  const texts = [...select.options].map((option) => option.value + option.text).join();
  if (options.length && options.map((option) => option.value + option.text).join() !== texts) fill(select, options);
  select.disabled = options.length === 0;
  if (view.id) select.value = view.id;
  byId("empty").hidden = view.runs.length > 0;
  if (view.runs.length && !view.id) choose(wanted() ?? view.runs.at(-1).id);
  if (!view.runs.length) setConnection("live");
}

/** The run that the address names: #run=<id>, or its name. */
function wanted() {
  const named = new URLSearchParams(location.hash.slice(1)).get("run");
  return view.runs.find((run) => run.id === named || run.name === named)?.id;
}

function choose(id) {
  if (id === view.id) return;
  view.stop?.();
  Object.assign(view, { id, run: null, preview: null });
  byId("run").value = id;
  if (wanted() !== id) history.replaceState(null, "", `#run=${id}`);
  byId("shown").hidden = true;
  byId("loading").hidden = false;
  edit.reset();
  provenance.clear();
  connect();
}

function connect() {
  view.stop?.();
  const { id } = view;
  view.stop = follow(`${pathOf(id)}/events`, {
    onOpen: () => reload(),
    onEvent: ({ event }) => (event === "reported" ? progress() : reload()),
    onState: (state, error) => setConnection(state, error),
  });
}

// -- keeping it current

/** Runs `work` now, or once more after the run of it that is under way: never twice at once, never too late. */
function coalesce(work, pauseMs) {
  let running = false;
  let again = false;
  return async function run() {
    if (running) return void (again = true);
    running = true;
    try {
      await work();
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    } catch (error) {
      trouble(error);
      if (!(error.status < 500) || error.status === 429) setTimeout(run, RETRY_MS); // the next event may be far
    } finally {
      running = false;
      if (again) {
        again = false;
        run();
      }
    }
  };
}

const reload = coalesce(async () => {
  const { id } = view;
  if (!id) return;
  const run = await load(id);
  if (id === view.id) show(run);
}, 200);

const progress = coalesce(async () => {
  const before = view.run;
  if (!before) return;
  const run = await advance(before);
  if (before !== view.run) return void progress(); // what was shown meanwhile may be older than this report
  if (run) show(run);
  else reload();
}, 500);

function show(run) {
  view.run = run;
  byId("trouble").hidden = true;
  byId("loading").hidden = true;
  byId("shown").hidden = false;
  document.title = `${run.name}: step ${run.step ?? 0} of ${run.num_steps} – Switchpoint`;
  edit.follow(run).catch(trouble);
  provenance.follow(run);
  draw();
}

// -- drawing

function draw() {
  const { run } = view;
  if (!run) return;
  drawSummary(byId("summary"), run);
  fill(
    byId("legend"),
    run.names.map((name) => element("li", {}, swatch(run.colours[name]), name)),
  );
  drawCorpora(byId("corpora"), run);
  drawHistory(byId("history"), byId("history-more"), run);
  drawTables(run);
  drawPlots();
}

function drawPlots() {
  if (!view.run) return;
  const run = { ...view.run, preview: view.preview, range: range(view.run) };
  const look = { ...theme(), of: (name) => run.colours[name] };
  look.dash = (name) => (look.of(name).pattern ? "dot" : "solid");
  plot("mixture-plot", mixturePlot(run, look, NARROW.matches), mixtureSaid(run));
  plot(
    "epochs-plot",
    coursePlot(run, look, NARROW.matches, "epochs"),
    "Epochs of each corpus over the steps; numbers in the table.",
  );
  plot(
    "tokens-plot",
    coursePlot(run, look, NARROW.matches, "tokens"),
    "Tokens read of each corpus over the steps; numbers in the table.",
  );
  fill(byId("mixture-notes"), mixtureNotes(run));
  const series = lossSeries(run.reports);
  byId("losses-none").hidden = series.length > 0;
  byId("losses-shown").hidden = series.length === 0;
  if (!series.length) return;
  plot("losses-plot", lossPlot(run, look, NARROW.matches), "Reported losses over the steps; numbers in the table.");
  const legend = series.map(({ label, corpus }) =>
    element("li", {}, swatch({ colour: corpus ? look.of(corpus).colour : look.ink }, true), label),
  );
  fill(byId("losses-legend"), legend);
}

function plot(id, { data, layout }, said) {
  const place = byId(id);
  place.setAttribute("aria-label", said);
  if (!window.Plotly)
    return void fill(
      place,
      element("p", { class: "note" }, "The plots could not be loaded; the tables have the same."),
    );
  Plotly.react(place, data, layout, {
    displayModeBar: false,
    responsive: true,
    doubleClick: "reset",
    scrollZoom: false,
  });
}

function mixtureSaid(run) {
  const last = run.switchpoints.map(({ start }) => start).join(", ");
  return (
    `Share of each corpus over steps 0 to ${run.num_steps}, target above, realised below. Now at step ${run.step ?? 0}, ` +
    `frontier at ${run.frontier}. ${last ? `Switchpoints at ${last}.` : "No switchpoints."} Numbers in the table below.`
  );
}

function drawTables(run) {
  const { names } = run;
  const head = ["step", ...names.map((name) => `${name} target`), ...names.map((name) => `${name} read`)];
  fill(byId("mixture-table"), table("Shares by step", head, mixtureRows(run)));
  fill(
    byId("course-table"),
    table("Epochs and tokens by step", ["step", ...names.map((name) => `${name}: epochs / tokens`)], courseRows(run)),
  );
  const losses = lossRows(run.reports);
  fill(byId("losses-table"), table("Losses by step", losses.head, losses.rows));
  fill(byId("metrics-table"), table("Last reported", ["metric", "value"], latestMetrics(run)));
}

/** The steps that the plots show; null for all. */
function range({ step, frontier, num_steps }) {
  const now = step ?? 0;
  const side = Math.max(2 * (frontier - now), Math.ceil(num_steps / 20), 5);
  return {
    all: null,
    ahead: now < num_steps ? [now, num_steps] : null,
    near: [Math.max(0, frontier - side), Math.min(num_steps, frontier + side)],
  }[byId("range").value];
}

// -- what goes wrong, and the token

function setConnection(state, error) {
  const said = {
    connecting: "connecting",
    live: "live",
    away: "service away, trying again",
    refused: error?.status === 401 ? "token needed" : "refused",
  };
  const place = byId("connection");
  place.dataset.state = state;
  if (place.textContent !== said[state]) place.textContent = said[state];
  if (state === "refused" && error.status !== 401) trouble(error);
}

function trouble(error) {
  if (!(error instanceof Problem)) {
    if (error instanceof TypeError && /fetch|network/i.test(error.message)) return; // the connection says so already
    console.error(error);
  }
  if (error.status === 401) return;
  byId("loading").hidden = true;
  const place = byId("trouble");
  place.textContent = error.message;
  place.hidden = false;
}

function askForToken(why) {
  const dialog = byId("token-dialog");
  if (why) byId("token-why").textContent = why;
  if (!dialog.open) dialog.showModal();
}

addEventListener("unauthenticated", () => {
  const refused = token.get() !== null;
  token.set(null);
  byId("token-button").hidden = false;
  setConnection("refused", { status: 401 });
  askForToken(
    refused
      ? "The service does not know this token, or not any more. Another one?"
      : "This service asks for a token. It is kept in this tab alone, until it is closed.",
  );
});

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("token");
  token.set(field.value.trim());
  field.value = "";
  byId("token-dialog").close();
  begin();
});
byId("token-cancel").addEventListener("click", () => byId("token-dialog").close());
byId("token-button").addEventListener("click", () => askForToken());

// -- light and dark

const THEMES = { "": ["auto", "as the system has it"], light: ["light", "light"], dark: ["dark", "dark"] };

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  theme ? localStorage.setItem("switchpoint-theme", theme) : localStorage.removeItem("switchpoint-theme");
  byId("theme").textContent = `Theme: ${THEMES[theme][0]}`;
  byId("theme").setAttribute("aria-label", `Theme: ${THEMES[theme][1]}`);
  draw();
}

byId("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme ?? "") + 1) % names.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
NARROW.addEventListener("change", draw);
byId("range").addEventListener("change", drawPlots);
byId("run").addEventListener("change", (event) => choose(event.target.value));
document.querySelector("nav").addEventListener("click", (event) => {
  if (!event.target.hash) return;
  event.preventDefault(); // the address keeps saying which run this is
  const title = byId(event.target.hash.slice(1));
  title.scrollIntoView();
  title.focus({ preventScroll: true });
});
addEventListener("hashchange", () => wanted() && choose(wanted()));
byId("history-more").addEventListener("click", (event) => {
  event.target.dataset.all = "yes";
  drawHistory(byId("history"), event.target, view.run);
});

// A stream holds one of the few connections that a browser opens to one place: tabs that nobody sees give it back.
document.addEventListener("visibilitychange", () => {
  if (!view.id) return;
  if (document.hidden) view.stop?.();
  else connect();
});

async function begin() {
  byId("token-button").hidden = token.get() === null;
  byId("empty-yaml").textContent = `service: {url: ${new URL(".", location.href).href.replace(/\/$/, "")}}`;
  const known = view.id; // begun again, with a token
  try {
    await listRuns();
    if (known) connect();
  } catch (error) {
    if (error.status === 401) return;
    setConnection("away");
    trouble(error);
  }
}

setInterval(async () => {
  if (document.hidden || byId("token-dialog").open) return;
  if (view.run) drawSummary(byId("summary"), view.run); // how long ago
  const empty = !view.runs.length;
  await listRuns().catch(() => empty && setConnection("away"));
}, LIST_MS);
setTheme(document.documentElement.dataset.theme ?? "");
addEventListener("load", draw); // plotly.js may come after the data
begin();
