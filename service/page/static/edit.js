// The edit form: a mixture from some step on, tried out while it is being made, then submitted.
//
// Every change of the form is tried as a dry run, which is drawn over the schedule and put into words. The edit is made
// against the revision that its author has seen (`parent`); when another comes in between, or its step is frozen, the
// form says so and offers the one change that makes it possible again.

import { freshKey, get, pathOf, post } from "./api.js";
import { byId, debounce, element, fill } from "./dom.js";
import { listed, whole } from "./format.js";
import { fromWeights, room, same, toWeights, UNIT, withShare } from "./mixture.js";
import { limitText } from "./run.js";
import { describe, describeProblem } from "./statement.js";
import { swatch } from "./summary.js";

const POINTS = 240;
const DRY_RUN_MS = 300;
const AUTHOR = "switchpoint-author";

export class EditForm {
  /** onPreview(preview or null): what a dry run found; onAccepted(): a revision was made. */
  constructor({ onPreview, onAccepted }) {
    Object.assign(this, { onPreview, onAccepted, run: null, rows: new Map(), locked: new Set() });
    this.tryLater = debounce(() => this.dryRun(), DRY_RUN_MS);
    this.reset();
    byId("author").value = localStorage.getItem(AUTHOR) ?? "";
    byId("edit-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    byId("effective").addEventListener("input", () => this.changed({ step: true }));
    for (const id of ["ramp", "length"]) byId(id).addEventListener("input", () => this.changed());
    byId("later").addEventListener("change", () => this.changed());
    byId("restore").addEventListener("click", () => this.restore());
    byId("discard").addEventListener("click", () => this.discard());
    byId("author").addEventListener("change", (event) => localStorage.setItem(AUTHOR, event.target.value));
  }

  /** Forgets the edit, as for another run. */
  reset() {
    Object.assign(this, {
      parts: null,
      scheduled: null,
      parent: null,
      dirty: false,
      stepChosen: false,
      key: null,
      tries: (this.tries ?? 0) + 1,
    });
    this.locked.clear();
    this.rows.clear();
    for (const id of ["shares", "preview", "edit-notice", "edit-done"]) fill(byId(id));
    byId("reason").value = "";
    byId("ramp").value = "";
    byId("length-label").hidden = true;
    byId("discard").hidden = true;
    this.onPreview?.(null);
  }

  async discard() {
    const { run } = this;
    this.reset();
    await this.follow(run);
    byId("effective").focus();
  }

  /** The run as it is now: an untouched form follows it; one in use says what stands in its way. */
  async follow(run) {
    this.run = run;
    if (this.parts) this.parts = Object.fromEntries(run.names.map((name) => [name, this.parts[name] ?? 0])); // one may be new
    const over = run.frontier >= run.num_steps;
    byId("edit-over").hidden = !over;
    byId("edit-form").hidden = over;
    if (over) return;
    byId("effective").min = run.frontier;
    byId("effective").max = run.num_steps - 1;
    if (!this.dirty) {
      this.parent = run.revision;
      if (!this.stepChosen) byId("effective").value = this.suggestedStep();
      await this.restoreQuietly();
    }
    this.drawHint();
    this.drawLater();
    this.drawNotice();
  }

  /** A step far enough ahead that it is not frozen while the edit is being written. */
  suggestedStep(from = this.run.frontier) {
    const { frontier, step, num_steps } = this.run;
    return Math.min(from + Math.max(frontier - (step ?? 0), Math.ceil(num_steps / 100)), num_steps - 1);
  }

  get step() {
    return byId("effective").valueAsNumber;
  }

  // -- the mixture

  /** Takes the shares that are scheduled at the form's step. */
  async restoreQuietly() {
    const { run, step } = this;
    if (!Number.isInteger(step) || step < 0 || step >= run.num_steps) return;
    const { weights } = await get(`${pathOf(run.id)}/weights`, { step });
    if (run.id !== this.run.id || step !== this.step) return;
    const untouched = this.parts === null || this.scheduled === null || same(this.parts, this.scheduled);
    this.scheduled = fromWeights(run.names, weights);
    if (untouched) this.parts = this.scheduled;
    this.drawShares();
  }

  restore() {
    this.parts = this.scheduled;
    this.locked.clear();
    this.changed();
  }

  setShare(name, parts) {
    this.parts = withShare(this.parts, this.locked, name, parts);
    this.changed();
  }

  drawShares() {
    const { names } = this.run;
    if (names.join("\n") !== [...this.rows.keys()].join("\n")) {
      this.rows = new Map(names.map((name) => [name, this.makeRow(name)]));
      fill(
        byId("shares"),
        [...this.rows.values()].map(({ row }) => row),
      );
    }
    const free = names.filter((name) => !this.locked.has(name));
    for (const [name, { slider, number, lock, limits }] of this.rows) {
      const percent = (100 * this.parts[name]) / UNIT;
      const stuck = this.locked.has(name) || free.length < 2;
      slider.value = percent;
      slider.disabled = number.disabled = stuck;
      if (document.activeElement !== number || !number.dataset.typing) number.value = Number(percent.toFixed(7));
      slider.setAttribute("aria-valuetext", `${Number(percent.toFixed(2))} per cent`);
      slider.style.setProperty("--filled", `${percent}%`);
      lock.checked = this.locked.has(name);
      const limited = limitText(this.run.limits?.[name]);
      limits.textContent = limited && `allowed: ${limited}`;
      limits.hidden = !limited;
    }
    const sum = names.reduce((total, name) => total + this.parts[name], 0);
    byId("sum").textContent = `Sum ${Number(((100 * sum) / UNIT).toFixed(7))} %`;
    byId("restore").disabled = !this.scheduled || same(this.parts, this.scheduled);
  }

  makeRow(name) {
    const colour = this.run.colours[name];
    const slider = element("input", {
      type: "range",
      min: 0,
      max: 100,
      step: 0.5,
      "aria-label": `Share of ${name}`,
      style: { "--colour": colour.colour },
      oninput: (event) =>
        this.setShare(name, Math.min((event.target.valueAsNumber / 100) * UNIT, room(this.parts, this.locked, name))),
    });
    const typed = (event) => {
      delete event.target.dataset.typing;
      if (Number.isFinite(event.target.valueAsNumber)) this.setShare(name, (event.target.valueAsNumber / 100) * UNIT);
      this.drawShares();
    };
    const number = element("input", {
      type: "number",
      inputmode: "decimal",
      min: 0,
      max: 100,
      step: "any",
      "aria-label": `Share of ${name} in per cent`,
      oninput: (event) => (event.target.dataset.typing = "yes"),
      onchange: typed,
    });
    const lock = element("input", {
      type: "checkbox",
      "aria-label": `Lock the share of ${name}`,
      onchange: (event) => {
        this.locked[event.target.checked ? "add" : "delete"](name);
        this.drawShares();
      },
    });
    const limits = element("p", { class: "note limits", hidden: true });
    const row = element(
      "div",
      { class: "share-row", role: "group", "aria-label": name },
      element("span", { class: "name" }, swatch(colour), name),
      element("span", { class: "number" }, number, element("span", { "aria-hidden": "true" }, "%")),
      element(
        "label",
        { class: "lock", title: `Keep ${name} as it is while others change` },
        lock,
        element("span", { "aria-hidden": "true" }, "lock"),
      ),
      slider,
      limits,
    );
    return { row, slider, number, lock, limits };
  }

  // -- what is drawn beside it

  drawHint() {
    const { run, step } = this;
    const ahead = step - (run.step ?? 0);
    byId("effective-hint").textContent =
      Number.isInteger(step) && step >= run.frontier
        ? `The frontier is at ${whole(run.frontier)}; step ${whole(step)} is ${whole(ahead)} steps from now.`
        : `The first step that may still change is ${whole(run.frontier)}.`;
  }

  /** The switchpoints that are planned after the form's step. */
  get later() {
    return this.run.phases.slice(1).filter(({ start }) => Number.parseInt(start, 10) > this.step);
  }

  get keepsLater() {
    return this.later.length > 0 && document.querySelector("input[name=later]:checked").value === "keep";
  }

  drawLater() {
    const starts = this.later.map(({ start }) => whole(Number.parseInt(start, 10)));
    byId("later").hidden = starts.length === 0;
    const shown = starts.length > 4 ? [...starts.slice(0, 3), `${starts.length - 3} more`] : starts;
    byId("later-keep").textContent =
      starts.length > 1 ? `at steps ${listed(shown)} stay as planned` : `at step ${shown} stays as planned`;
  }

  drawNotice() {
    const { run } = this;
    const notice = byId("edit-notice");
    if (!this.dirty) return void fill(notice);
    if (run.revision !== this.parent) return void this.sayStale(run.revision);
    if (this.step < run.frontier) return void this.sayFrozen(run.frontier);
    if (notice.dataset.about === "run") fill(notice);
  }

  /** Another revision came first. */
  sayStale(current) {
    const found = this.run.revisions.find(({ number }) => number === current);
    const who = found
      ? `Revision ${current} by ${found.author} (“${found.reason}”)`
      : current
        ? `Revision ${current}`
        : "The base schedule";
    this.say(
      `${who} is in force now; your edit was made against ${this.parent ? `revision ${this.parent}` : "the base schedule"}. Nothing is lost: look at the plot, then go on.`,
      `Rebase onto ${current ? `revision ${current}` : "the base"}`,
      () => {
        this.parent = current;
        this.changed({ quiet: true });
      },
    );
  }

  sayFrozen(earliest) {
    if (earliest >= this.run.num_steps)
      return void this.say("Every step of the run is decided by now: nothing can be changed any more.");
    const step = this.suggestedStep(earliest);
    this.say(
      `Step ${whole(this.step)} is frozen: the trainer has been promised every step below ${whole(earliest)}.`,
      `Move the edit to step ${whole(step)}`,
      () => {
        byId("effective").value = step;
        this.changed({ step: true });
      },
    );
  }

  say(text, action, act) {
    const notice = byId("edit-notice");
    notice.dataset.about = "run";
    const said = `${text} ${action}`; // the frontier moves while a notice stands: then it offers another step
    if (notice.dataset.said === said && notice.firstChild) return;
    notice.dataset.said = said;
    const button =
      action &&
      element(
        "button",
        {
          type: "button",
          onclick: () => {
            fill(notice);
            act();
            byId("submit").focus();
          },
        },
        action,
      );
    fill(notice, element("div", { class: "conflict" }, element("p", {}, text), button));
  }

  // -- trying it out

  /** The form has changed: shows what follows at once, and asks the service soon. */
  changed({ step = false, quiet = false } = {}) {
    this.dirty = true;
    this.key = null;
    this.stepChosen ||= step;
    byId("discard").hidden = false;
    byId("length-label").hidden = byId("ramp").value === "";
    fill(byId("edit-done"));
    this.drawHint();
    this.drawLater();
    if (!quiet) this.drawNotice();
    if (this.parts) this.drawShares();
    if (step) this.restoreQuietly().catch(() => {});
    this.tryLater();
  }

  /** The body of the revision as the form has it. */
  body({ reason = byId("reason").value.trim(), author = byId("author").value.trim() } = {}) {
    const shape = byId("ramp").value;
    const ramp = shape ? { ramp: { shape, length: `${byId("length").valueAsNumber}ba` } } : {};
    const mixture = toWeights(this.parts);
    const change = this.keepsLater
      ? { schedule: { phases: [{ start: `${this.step}ba`, mixture, ...ramp }, ...this.later] } }
      : { mixture, ...ramp };
    return { parent: this.parent, effective_step: this.step, ...change, reason, author };
  }

  /** Tries the form out; whether it would be accepted. */
  async dryRun() {
    const place = byId("preview");
    if (!this.dirty || !this.parts) return false;
    const wrong = this.wrong();
    if (wrong) {
      this.onPreview(null);
      fill(place, element("p", { class: "wrong" }, wrong));
      return false;
    }
    const tried = ++this.tries;
    place.setAttribute("aria-busy", "true");
    try {
      // a dry run tells nobody, so it may be asked for before there is a reason
      const body = this.body({
        reason: byId("reason").value.trim() || "dry run",
        author: byId("author").value.trim() || "dry run",
      });
      const preview = await post(`${pathOf(this.run.id)}/revisions?dry_run=true&points=${POINTS}`, body);
      if (tried !== this.tries) return false;
      this.onPreview(preview);
      const replaced = this.keepsLater ? { kept: this.later } : { dropped: this.later };
      fill(place, describe({ run: this.run, preview, body, scheduled: toWeights(this.scheduled ?? {}), ...replaced }));
      return true;
    } catch (error) {
      if (tried === this.tries) this.refused(error);
      return false;
    } finally {
      if (tried === this.tries) place.removeAttribute("aria-busy");
    }
  }

  /** What is wrong with the form that needs no service to be seen. */
  wrong() {
    if (!Number.isInteger(this.step)) return "From which step? Give a whole number.";
    if (this.step >= this.run.num_steps) return `The run ends at step ${whole(this.run.num_steps)}: give a lower step.`;
    const length = byId("length").valueAsNumber;
    if (byId("ramp").value && !(Number.isInteger(length) && length >= 1))
      return "Over how many steps is the mixture reached? Give a whole number from 1 on.";
    return null;
  }

  refused(error) {
    if (error.status === 401) return;
    this.onPreview(null);
    fill(byId("preview"));
    if (error.kind === "stale-parent") return void this.sayStale(error.body.current_revision);
    if (error.kind === "frozen-step") return void this.sayFrozen(error.body.earliest_step);
    fill(byId("preview"), describeProblem(error));
  }

  // -- making it so

  async submit() {
    const form = byId("edit-form");
    if (!this.dirty) {
      fill(
        byId("preview"),
        element("p", { class: "wrong" }, "Nothing differs from the schedule yet: move a share first."),
      );
      return;
    }
    if (this.wrong() || !form.reportValidity()) return void this.dryRun();
    const button = byId("submit");
    button.disabled = true;
    this.tries += 1; // an answer to an earlier dry run says nothing any more
    try {
      this.key ??= freshKey(); // kept until the form changes: sending it again after a break makes it once
      const made = await post(`${pathOf(this.run.id)}/revisions`, this.body(), { "Idempotency-Key": this.key });
      const { run } = this;
      this.reset();
      await this.follow({ ...run, revision: made.number }).catch(() => {}); // the next reading will do it
      byId("edit-done").textContent =
        `Revision ${made.number} is accepted: it takes effect at step ${whole(made.effective_step)}.`;
      byId("edit-done").focus();
      this.onAccepted();
    } catch (error) {
      if (error.status) this.refused(error);
      else
        fill(
          byId("preview"),
          element(
            "p",
            { class: "wrong" },
            "The service did not answer. Submit again: it is made once, even if it had arrived.",
          ),
        );
    } finally {
      button.disabled = false;
    }
  }
}
