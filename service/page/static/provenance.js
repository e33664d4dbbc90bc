// What is read where: the steps that read a sample, and the samples that stand in a step.

import { get, pathOf } from "./api.js";
import { byId, element, fill, table } from "./dom.js";
import { whole } from "./format.js";
import { swatch } from "./summary.js";

const SLOTS = 50; // of one page of a step

export class Provenance {
  constructor() {
    byId("reads-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.findReads(byId("reads-corpus").value, byId("reads-sample").valueAsNumber);
    });
    byId("batch-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.findBatch(byId("batch-step").valueAsNumber);
    });
  }

  /** The run has changed; what was found is left standing, as of the revision it names. */
  follow(run) {
    this.run = run;
    const select = byId("reads-corpus");
    if ([...select.options].map((option) => option.value).join("\n") === run.names.join("\n")) return;
    fill(
      select,
      run.names.map((name) => element("option", { value: name }, name)),
    );
    byId("batch-step").max = run.num_steps - 1;
  }

  clear() {
    fill(byId("reads"));
    fill(byId("batch"));
  }

  async findReads(corpus, sample, start = 0, before = []) {
    await asked(byId("reads"), async () => {
      const address = `${pathOf(this.run.id)}/samples/${encodeURIComponent(corpus)}/${sample}`;
      const found = await get(address, { start, limit: 200 });
      const reads = [...before, ...found.reads];
      byId("reads-corpus").value = corpus;
      byId("reads-sample").value = sample;
      const rows = reads.map(({ step, slot }) => [
        element(
          "button",
          { type: "button", class: "link", onclick: () => this.findBatch(step, slot, slot) },
          `step ${whole(step)}`,
        ),
        whole(slot),
        this.standing(step),
      ]);
      return [
        element("p", {}, this.sentence(corpus, sample, reads.length, found)),
        rows.length > 0 &&
          element(
            "div",
            {
              class: "scroll list",
              tabindex: 0,
              role: "region",
              "aria-label": `Steps that read sample ${sample} of ${corpus}`,
            },
            table(`Steps that read sample ${sample} of ${corpus}`, ["step", "slot", "standing"], rows),
          ),
        found.next !== null &&
          element(
            "button",
            { type: "button", class: "quiet", onclick: () => this.findReads(corpus, sample, found.next, reads) },
            `Go on from step ${whole(found.next)}`,
          ),
      ];
    });
  }

  sentence(corpus, sample, times, { end, next, also_named: others }) {
    const where = next === null ? "in this run" : `below step ${whole(end)}`;
    const often = times === 0 ? "is not read" : times === 1 ? "is read once" : `is read ${whole(times)} times`;
    const also = others.length ? ` It may also be read as ${others.join(", ")}.` : "";
    return `Sample ${whole(sample)} of ${corpus} ${often} ${where}, under revision ${this.run.revision}.${also}`;
  }

  standing(step) {
    if (step < (this.run.step ?? 0)) return "trained";
    return step < this.run.frontier ? "decided" : "forecast";
  }

  async findBatch(step, slot = 0, sought = null) {
    await asked(byId("batch"), async () => {
      const start = Math.floor(slot / SLOTS) * SLOTS;
      const found = await get(`${pathOf(this.run.id)}/batches/${step}`, { start, limit: SLOTS });
      byId("batch-step").value = step;
      const rows = found.corpus.map((corpus, index) => {
        const sample = found.sample_id[index];
        const at = found.start + index;
        return [
          element("span", { class: at === sought ? "found" : "" }, whole(at)),
          element("span", {}, this.run.colours[corpus] && swatch(this.run.colours[corpus]), corpus),
          element(
            "button",
            {
              type: "button",
              class: "link",
              "aria-label": `sample ${sample} of ${corpus}: which steps read it`,
              onclick: () => this.findReads(corpus, sample),
            },
            whole(sample),
          ),
          whole(found.epoch[index]),
        ];
      });
      const turn = (text, to) =>
        element("button", { type: "button", class: "quiet", onclick: () => this.findBatch(step, to) }, text);
      return [
        element(
          "p",
          {},
          `Step ${whole(step)} (${this.standing(step)}), slots ${whole(found.start)} to ${whole(found.end - 1)}, under revision ${found.revision}.`,
        ),
        element(
          "div",
          { class: "scroll list", tabindex: 0, role: "region", "aria-label": `What stands in step ${step}` },
          table(`What stands in step ${step}`, ["slot", "corpus", "sample", "epoch"], rows),
        ),
        element(
          "p",
          { class: "buttons" },
          found.start > 0 && turn("Slots before", found.start - SLOTS),
          found.next !== null && turn("Slots after", found.next),
        ),
      ];
    });
    const row = byId("batch").querySelector(".found")?.closest("tr");
    if (row) row.closest(".list").scrollTop = row.offsetTop - row.offsetHeight;
  }
}

/** Puts what `work` finds into `place`, or what the service said against it. */
async function asked(place, work) {
  place.setAttribute("aria-busy", "true");
  try {
    fill(place, await work());
  } catch (error) {
    if (error.status !== 401) fill(place, element("p", { class: "wrong" }, error.message));
  } finally {
    place.removeAttribute("aria-busy");
  }
}
