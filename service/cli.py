"""`switchpoint-service`: serve the live schedule, and move ledgers between databases as JSON lines."""

import argparse
import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from service.errors import ServiceError, TokenFileError
from service.settings import Settings
from service.tokens import Token, load_tokens

if TYPE_CHECKING:
    from service.store import Store

__all__ = ["main"]

PROGRAM = "switchpoint-service"
EXAMPLES = """examples:
  switchpoint-service serve --db runs.db
  switchpoint-service serve --host 0.0.0.0 --token-file tokens --db /var/lib/switchpoint/runs.db
  switchpoint-service export --db runs.db 3f9a1c0b7d52 > ledger.jsonl
  switchpoint-service import --db other.db ledger.jsonl
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 1 the work failed, 2 the call was wrong."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except ServiceError as error:
        return _complain(str(error), 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has gone
        return 1
    except OSError as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    database = argparse.ArgumentParser(add_help=False)
    database.add_argument(
        "--db",
        type=_database,
        default=os.environ.get("SWITCHPOINT_DB", "switchpoint.db"),
        metavar="DATABASE",
        help="a SQLite file, or postgresql://user@host/name [what SWITCHPOINT_DB says, or switchpoint.db]",
    )

    serve = _command(commands, "serve", _serve, "serve the live schedule over HTTP", database)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    serve.add_argument("--port", type=_port, default=8321, help="0 takes a free one [%(default)s]")
    serve.add_argument(
        "--token-file",
        type=Path,
        default=None,
        metavar="FILE",
        help="lines of scope:name:token, scopes read, write, trainer; required beyond loopback "
        "[the file SWITCHPOINT_TOKENS names]",
    )
    export = _command(commands, "export", _export, "write a run's ledger as JSON lines", database)
    export.add_argument("run", metavar="RUN", help="id of the run")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="instead of standard output")
    importer = _command(commands, "import", _import, "add a run from an exported ledger", database)
    importer.add_argument("file", type=Path, metavar="FILE", help="what export wrote")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    function: object,
    text: str,
    database: argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        parents=[database],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=function)
    return parser


def _database(text: str) -> Path | str:
    return text if "://" in text else Path(text)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _serve(arguments: argparse.Namespace) -> int:
    token_file = arguments.token_file or os.environ.get("SWITCHPOINT_TOKENS")
    if token_file is None and not is_loopback(arguments.host):
        return _complain(
            f"{arguments.host} is not a loopback address: give --token-file FILE (or SWITCHPOINT_TOKENS) "
            "with lines of scope:name:token, or listen on 127.0.0.1",
            2,
        )
    tokens: tuple[Token, ...] = ()
    if token_file is not None:
        try:
            tokens = load_tokens(Path(token_file))
        except TokenFileError as error:
            return _complain(f"token file {token_file}: {error}", 2)
    try:
        settings = Settings(database=arguments.db, tokens=tokens)
    except ValidationError as error:
        return _complain("; ".join(item["msg"] for item in error.errors()), 2)
    with contextlib.closing(_listen(arguments.host, arguments.port)) as listener:
        from service.server import serve

        serve(settings, listener, announce=_announce)
    return 0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def _announce(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    print(f"{PROGRAM} ready: http://{shown}:{port}", flush=True)


def _export(arguments: argparse.Namespace) -> int:
    from service.transfer import export_ledger

    with contextlib.closing(_open_existing(arguments.db)) as store:
        if arguments.output is None:
            for line in export_ledger(store, arguments.run):
                print(line)
        else:
            temporary = arguments.output.with_name(arguments.output.name + ".part")
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in export_ledger(store, arguments.run))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(arguments.output)
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from service.store import Store
    from service.transfer import import_ledger

    try:
        lines = arguments.file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return _complain(f"cannot read {arguments.file}: {error}", 2)
    with contextlib.closing(Store(arguments.db)) as store:
        row = import_ledger(store, lines)
    print(f"imported run {row.id} ({row.name}): revision {row.revision}, frontier {row.frontier}")
    return 0


def _open_existing(database: Path | str) -> "Store":
    from service.errors import DatabaseFileError
    from service.store import Store

    if isinstance(database, Path) and not database.is_file():
        raise DatabaseFileError(str(database), "there is no such file")
    return Store(database)


def _complain(message: str, code: int) -> int:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return code
