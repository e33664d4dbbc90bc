"""The report's HTML: one file, nothing fetched, light and dark, and fit for print. Content comes from `report`."""

from collections.abc import Iterable, Sequence
from html import escape

CSS = """
:root{color-scheme:light dark;--page:#fbfbfa;--card:#fff;--ink:#1f2328;--soft:#59636e;--rule:#dfe3e8;--grid:#e3e7ec;
--good:#1a7f4b;--good-back:#e3f5ea;--bad:#b3261e;--bad-back:#fbe6e4;--link:#0b62c4}
@media (prefers-color-scheme:dark){:root{--page:#0f1216;--card:#171b21;--ink:#e6e9ee;--soft:#9aa4b0;--rule:#2c333c;
--grid:#2a313a;--good:#56d491;--good-back:#11301f;--bad:#ff8a80;--bad-back:#3a1715;--link:#6cb2ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:62rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:2rem;line-height:1.2;margin:0 0 .4rem;letter-spacing:-.01em}
h2{font-size:1.3rem;line-height:1.3;margin:3rem 0 .5rem;letter-spacing:-.005em}
p{margin:.4rem 0 1rem;max-width:46rem}
.lead{color:var(--soft);font-size:1.05rem}
code{font:.9em/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.verdict{border-radius:.6rem;padding:1rem 1.25rem;margin:1.5rem 0;background:var(--good-back)}
.verdict strong{color:var(--good);font-size:1.25rem;display:block}
.verdict.failed{background:var(--bad-back)}.verdict.failed strong{color:var(--bad)}
.verdict p{margin:.2rem 0 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.25rem 0;padding:0}
.tiles div{background:var(--card);border:1px solid var(--rule);border-radius:.6rem;padding:.8rem 1rem}
.tiles dt{color:var(--soft);font-size:.85rem;line-height:1.3}
.tiles dd{margin:.15rem 0 0;font-size:1.45rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}
figure{margin:1rem 0;background:var(--card);border:1px solid var(--rule);border-radius:.6rem;padding:1rem}
figure>div,.wide{overflow-x:auto}
figure svg{display:block;width:100%;min-width:38rem;height:auto}
figcaption{color:var(--soft);font-size:.9rem;margin-top:.6rem;max-width:46rem}
table{border-collapse:collapse;min-width:min(100%,34rem);font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);font-size:.9rem;padding:0 0 .5rem}
th,td{padding:.45rem .7rem;border-bottom:1px solid var(--rule);text-align:right;vertical-align:top}
th:first-child,td:first-child{padding-left:0}th:last-child,td:last-child{padding-right:0}
thead th{color:var(--soft);font-weight:600;white-space:nowrap;border-bottom-width:2px}
th[scope=row],.text{text-align:left}tbody th{font-weight:600}
.wide{margin:1rem 0}
ol.story{padding-left:1.3rem;max-width:46rem}ol.story li{margin:.25rem 0}
footer{margin-top:3.5rem;padding-top:1rem;border-top:1px solid var(--rule);color:var(--soft);font-size:.9rem}
@media print{:root{--page:#fff;--card:#fff;--ink:#000;--soft:#444;--rule:#bbb;--grid:#ddd;--good:#0a5c31;
--good-back:#eef8f1;color-scheme:light}body{font-size:10.5pt}main{max-width:none;padding:0}
figure,table,.verdict,.tiles{break-inside:avoid}h2{break-after:avoid}figure svg{min-width:0}.wide{overflow:visible}}
"""

LEFT = "text"  # the class of cells that hold words


def document(title: str, body: Iterable[str]) -> str:
    """The whole page."""
    parts = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<main>\n{parts}\n</main>\n</body>\n</html>\n"
    )


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]], *, words: Sequence[int] = ()) -> str:
    """A table whose first column names the row; columns in `words` hold text and are set to the left."""

    def cell(column: int, value: object) -> str:
        text = escape(str(value))
        if column == 0:
            return f'<th scope="row">{text}</th>'
        return f'<td class="{LEFT}">{text}</td>' if column in words else f"<td>{text}</td>"

    def head(column: int, text: str) -> str:
        left = f' class="{LEFT}"' if column == 0 or column in words else ""
        return f'<th scope="col"{left}>{escape(text)}</th>'

    top = "".join(head(column, text) for column, text in enumerate(heads))
    body = "\n".join("<tr>" + "".join(cell(c, value) for c, value in enumerate(row)) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def figure(svg: str, *, alternative: str, caption: str) -> str:
    """A picture; `alternative` says in words what it shows."""
    labelled = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alternative)}" ', 1)
    return f"<figure><div>{labelled}</div><figcaption>{escape(caption)}</figcaption></figure>"


def tiles(facts: Iterable[tuple[str, str]]) -> str:
    """Large numbers with their names."""
    inner = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="tiles">{inner}</dl>'


def verdict(text: str, more: str, *, passed: bool) -> str:
    """The one sentence that the page is about."""
    state = "" if passed else " failed"
    return f'<div class="verdict{state}" role="status"><strong>{escape(text)}</strong><p>{escape(more)}</p></div>'


def heading(text: str, lead: str = "") -> str:
    return f"<h2>{escape(text)}</h2>" + (f"\n<p>{escape(lead)}</p>" if lead else "")


def story(events: Iterable[str]) -> str:
    """What happened, in order."""
    return '<ol class="story">' + "".join(f"<li>{escape(event)}</li>" for event in events) + "</ol>"
