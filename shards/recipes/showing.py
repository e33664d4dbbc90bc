"""Recipes for people: all in one table, or one of them whole."""

from __future__ import annotations

from shards.recipes.reading import Recipe, find_recipe, recipe_names

__all__ = ["describe", "table"]


def table() -> str:
    """The shipped recipes, a line each: name, hub id, expected tokens, rows, licence."""
    lines = [("recipe", "tokens", "rows", "on the hub", "licence")]
    for name in recipe_names():
        recipe = find_recipe(name)
        hub = ", ".join(dict.fromkeys(source.hub for source in recipe.sources))
        where = f"parts: {', '.join(recipe.parts)}" if recipe.parts else hub or "-"
        lines.append((name, _short(recipe.tokens), str(recipe.options.get("rows", "packed")), where, recipe.licence))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        f"{name:<{widths[0]}}  {tokens:>{widths[1]}}  {rows:<{widths[2]}}  {where:<{widths[3]}}  {licence}".rstrip()
        for name, tokens, rows, where, licence in lines
    )


def describe(recipe: Recipe) -> str:
    """All of one recipe, a line a fact."""
    facts = [
        ("recipe", recipe.name),
        ("what it is", recipe.description),
        ("licence", recipe.licence),
        ("tokens", f"{recipe.tokens:,} expected" if recipe.tokens else ""),
        ("parts", ", ".join(recipe.parts)),
        *(("input", text) for text in recipe.all_inputs),
        *(("text", repr(alternative)) for alternative in recipe.template.alternatives),
        ("columns", ", ".join(sorted(recipe.template.names))),
        *((key, str(value)) for key, value in recipe.options.items()),
        ("loss", _loss(recipe)),
        ("file", recipe.place),
    ]
    return "\n".join(f"{key:<11} {value}" for key, value in facts if value)


def _loss(recipe: Recipe) -> str:
    if recipe.options.get("rows") != "examples":
        return ""
    if recipe.mask_prompt:
        return "prompts masked: set mask_prompt: true of this corpus in the file of the run"
    return "on prompts and outputs"


def _short(tokens: int | None) -> str:
    if tokens is None:
        return "-"
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if tokens >= size:
            return f"{tokens / size:.4g}{unit}"
    return str(tokens)
