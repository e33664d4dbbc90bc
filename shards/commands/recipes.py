"""`switchpoint-shards recipes`: which corpora are known, and how each is made."""

from __future__ import annotations

import argparse

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]

DESCRIPTION = "list the corpus recipes, or show one"
EPILOG = """\
A recipe says where a corpus lies, how its records become text, and how it is converted (`convert --recipe`).

example:
  switchpoint-shards recipes
  switchpoint-shards recipes starcoder
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to `parser`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a recipe, or the path of one; default: a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or what each recipe says."""
    from shards.recipes import describe, find_recipe, table

    print("\n\n".join(describe(find_recipe(name)) for name in arguments.names) if arguments.names else table())
    return 0
