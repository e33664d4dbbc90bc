// One colour for each corpus, the same in every plot and table; told apart by all kinds of eyes.

// Okabe and Ito's colours, of a lightness that reads on white and on black; from the ninth corpus on with a pattern.
const COLOURS = ["#3b7dd8", "#e69f00", "#009e73", "#cc6fa6", "#d55e00", "#56b4e9", "#8f7ad6", "#a8a032"];
const PATTERNS = ["", "/", ".", "x", "-", "|", "+", "\\"];

/**
 * {name: {colour, pattern}} for the corpora of a run: first those it was made with, by name, then those that changes of
 * the schedule made, as they came, so that a corpus keeps its colour when others are added; last `others`.
 */
export function coloursOf(names, changes, others = []) {
  const made = changes.flatMap((change) => Object.keys(change.corpora)).filter((name) => names.includes(name));
  const first = [...names].filter((name) => !isMade(name, changes)).sort();
  const order = [...new Set([...first, ...made, ...others])];
  return Object.fromEntries(
    order.map((name, index) => [
      name,
      {
        colour: COLOURS[index % COLOURS.length],
        pattern: PATTERNS[Math.floor(index / COLOURS.length) % PATTERNS.length],
      },
    ]),
  );
}

/** Whether a change makes the corpus: it stands under the name that it makes. */
function isMade(name, changes) {
  return changes.some(({ corpora }) => ["add", "rename", "split"].some((verb) => verb in (corpora[name] ?? {})));
}
