"""`switchpoint-shards`: the commands of `shards.commands`.

Exit codes: 0 done; 1 the work failed, or `verify` found faults; 2 the call or its input is wrong; 130
interrupted. Errors are one line on stderr. Progress goes to stderr, and only to a terminal.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from shards.commands import convert, decontaminate, inspect, proximity, recipes, verify
from shards.errors import ShardsError

__all__ = ["main"]

_COMMANDS = {
    "convert": convert,
    "recipes": recipes,
    "decontaminate": decontaminate,
    "inspect": inspect,
    "verify": verify,
    "proximity": proximity,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except ShardsError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchpoint-shards",
        description="Turn corpora into MDS shards, and say what is in them.",
        epilog=convert.EPILOG[convert.EPILOG.index("example:") :] + "\n`COMMAND --help` has an example of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.DESCRIPTION,
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
