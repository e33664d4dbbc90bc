// Elements made and filled without ever parsing text as HTML: names and reasons come from other people.

/** element("p", {class: "note", onclick: f}, "text", otherElement): false, null and undefined are left out. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, item] of Object.entries(value)) made.style.setProperty(key, item);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Puts `children` in the place of what `parent` holds. */
export function fill(parent, ...children) {
  parent.replaceChildren(
    ...children.flat().filter((child) => child !== undefined && child !== null && child !== false),
  );
  return parent;
}

/** A table: `head` are titles, `rows` lists of cells (text or elements); the first cell of a row names it. */
export function table(caption, head, rows) {
  const cell = (content, index) =>
    index === 0
      ? element("th", { scope: "row", role: "rowheader" }, content)
      : element("td", { role: "cell", "data-label": head[index] }, element("span", {}, content));
  return element(
    "table",
    { role: "table" },
    element("caption", { class: "hidden" }, caption),
    element(
      "thead",
      { role: "rowgroup" },
      element(
        "tr",
        { role: "row" },
        head.map((title) => element("th", { scope: "col", role: "columnheader" }, title)),
      ),
    ),
    element(
      "tbody",
      { role: "rowgroup" },
      rows.map((row) => element("tr", { role: "row" }, row.map(cell))),
    ),
  );
}

/** Calls `work` once things have been quiet for `ms`; each call starts the wait again. */
export function debounce(work, ms) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), ms);
  };
}
