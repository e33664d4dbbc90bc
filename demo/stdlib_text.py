"""Real text that every Python brings along: the source of the standard library, and what is written about it.

Only the standard library itself is read, never site-packages, and not its tests, so the same Python gives the same
text everywhere. Modules are parsed, not imported: nothing in them runs.
"""

import ast
import importlib
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data"}
WRITTEN_IN_C = (
    "builtins",
    "collections",
    "datetime",
    "functools",
    "itertools",
    "math",
    "operator",
    "sys",
    "time",
    "zlib",
)
SHORTEST_PAGE = 200  # characters
SHORTEST_COMMENT = 120

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Module:
    """One source file: its text, the pages of documentation in it, and (qualified name, first sentence) pairs."""

    name: str
    path: str
    source: str
    pages: tuple[str, ...]
    summaries: tuple[tuple[str, str], ...]


def read_modules(*, workers: int) -> list[Module]:
    """Every readable module of the standard library, sorted by path."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    wanted = [path for path in paths if not SKIPPED_FOLDERS & set(Path(path).parts)]
    with ProcessPoolExecutor(workers) as pool:
        found = pool.map(_read_module, [str(root)] * len(wanted), wanted, chunksize=32)
        return [module for module in found if module is not None]


def reference_pages() -> list[tuple[str, str]]:
    """(name, page) of what no source file holds: the language reference, modules written in C, the licence."""
    pages = [(f"{name}.c", page) for name in WRITTEN_IN_C for page in _pages_of_c(name)]
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:  # some systems package it apart
        topics = {}
    pages += [(f"reference/{name}", topics[name]) for name in sorted(topics)]
    licence = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    if licence.is_file():
        pages.append(("license", licence.read_text("utf-8", errors="replace")))
    return [(name, page) for name, page in pages if len(page) >= SHORTEST_PAGE]


def _read_module(root: str, path: str) -> Module | None:
    """The module at `path`, or None where the file is not what a parser can read (some are broken on purpose)."""
    try:
        source = Path(root, path).read_text("utf-8")
        tree = ast.parse(source)
    except (OSError, ValueError, SyntaxError, RecursionError):
        return None
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    lines = source.splitlines()
    entries = list(_entries(name, tree, lines))
    pages = [*_pages(name, entries), "\n\n".join(_comments(lines))]
    return Module(
        name=name,
        path=path,
        source=source,
        pages=tuple(page for page in pages if len(page) >= SHORTEST_PAGE),
        summaries=tuple((where, sentence) for where, _, doc in entries if (sentence := _first_sentence(doc))),
    )


def _entries(name: str, node: Documented, lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """(qualified name, heading, docstring) of `node` and of all below it, in the order of the source."""
    if doc := ast.get_docstring(node):
        yield name, "" if isinstance(node, ast.Module) else lines[node.lineno - 1].strip().rstrip(":"), doc
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _entries(f"{name}.{child.name}", child, lines)


def _pages(module: str, entries: list[tuple[str, str, str]]) -> Iterator[str]:
    """A page for each class, and one for the module with its functions."""
    texts: dict[str, list[str]] = {}
    for where, heading, doc in entries:
        inner = where.removeprefix(module).strip(".").split(".")
        page = inner[0] if len(inner) > 1 or heading.startswith("class ") else ""
        texts.setdefault(page, []).append(f"{heading}\n\n{doc}".strip())
    for page, parts in texts.items():
        yield f"{module}.{page}".rstrip(".") + "\n\n" + "\n\n".join(parts)


def _comments(lines: list[str]) -> Iterator[str]:
    """The longer comments, as running text."""
    block: list[str] = []
    for line in [*lines, ""]:
        text = line.strip()
        if text.startswith("#"):
            block.append(text.lstrip("#! ").rstrip("-=# "))
        elif block:
            if len(joined := "\n".join(block).strip()) >= SHORTEST_COMMENT:
                yield joined
            block = []


def _pages_of_c(name: str) -> Iterator[str]:
    """A page for each class of a module that has no source file here, and one for its functions."""
    module = importlib.import_module(name)
    functions = [module.__doc__ or ""]
    for key, value in sorted(vars(module).items()):
        doc = getattr(value, "__doc__", None)
        if not isinstance(doc, str) or key.startswith("_"):
            continue
        if not isinstance(value, type):
            functions += [f"{name}.{key}\n\n{doc}"] if callable(value) else []
            continue
        methods = [(k, getattr(v, "__doc__", None)) for k, v in sorted(vars(value).items()) if not k.startswith("_")]
        yield "\n\n".join([f"class {name}.{key}", doc, *(f"{k}: {text}" for k, text in methods if text)])
    yield "\n\n".join(functions)


def _first_sentence(doc: str) -> str:
    """The first sentence of a docstring on one line, or nothing where it says too little."""
    sentence = " ".join(doc.strip().split("\n\n")[0].split()).split(". ")[0].rstrip(".")
    return f"{sentence}." if 30 <= len(sentence) <= 300 and sentence[0].isupper() else ""
