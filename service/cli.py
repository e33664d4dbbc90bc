"""`switchpoint-service`: serve the live schedule, say who may use it, move ledgers between databases."""

import argparse
import contextlib
import os
import re
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from service import logs
from service.addresses import is_loopback
from service.errors import ServiceError, TokenFileError
from service.settings import Settings
from service.tokens import SCOPES, Token, check_secret, digest, load_tokens

if TYPE_CHECKING:
    from service.store import Store

__all__ = ["main"]

PROGRAM = "switchpoint-service"
EXAMPLES = """examples:
  switchpoint-service serve --db runs.db
  switchpoint-service serve --host 0.0.0.0 --token-file tokens --db /var/lib/switchpoint/runs.db
  switchpoint-service tokens issue --db runs.db --name ada --scope write --expires 90d
  switchpoint-service export --db runs.db 3f9a1c0b7d52 > ledger.jsonl
  switchpoint-service import --db other.db ledger.jsonl
"""
HELP: Any = {"epilog": EXAMPLES, "formatter_class": argparse.RawDescriptionHelpFormatter}


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

    _serve_options(_command(commands, "serve", _serve, "serve the live schedule over HTTP", database))
    _tokens_commands(commands, database)
    export = _command(commands, "export", _export, "write a run's ledger as JSON lines", database)
    export.add_argument("run", metavar="RUN", help="id of the run")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="instead of standard output")
    importer = _command(commands, "import", _import, "add a run from an exported ledger", database)
    importer.add_argument("file", type=Path, metavar="FILE", help="what export wrote")
    return parser


def _serve_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    serve.add_argument("--port", type=_port, default=8321, help="0 takes a free one [%(default)s]")
    serve.add_argument(
        "--token-file",
        type=Path,
        default=None,
        metavar="FILE",
        help=f"lines of scope:name:token, scopes {', '.join(SCOPES)}; beyond loopback there must be such a file, or "
        "tokens that were issued [the file SWITCHPOINT_TOKENS names]",
    )
    told = {name: field.default for name, field in Settings.model_fields.items()}
    number: Any = {"type": float, "metavar": "N"}
    serve.add_argument(
        "--rate-limit",
        default=told["rate_limit"],
        help="requests a second of each token, or of each address without one; 0: no limit [%(default)g]",
        **number,
    )
    serve.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a site whose pages may use this service, like https://plots.example.org; may be given again [none]",
    )
    serve.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address or network of a proxy whose X-Forwarded-For is believed; may be given again [none]",
    )
    serve.add_argument(
        "--shutdown-delay",
        default=told["shutdown_delay_s"],
        help="seconds to go on answering, but not ready, once asked to stop [%(default)g]",
        **number,
    )
    serve.add_argument(
        "--shutdown-grace",
        default=told["shutdown_grace_s"],
        help="seconds that requests may then still take [%(default)g]",
        **number,
    )
    serve.add_argument("--log-format", choices=logs.FORMATS, default="text", help="[%(default)s]")
    serve.add_argument("--log-level", choices=logs.LEVELS, default="info", help="[%(default)s]")


def _tokens_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", database: Any) -> None:
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", required=True, help="whose it is; the record has it beside what was done")
    named.add_argument(
        "--scope", required=True, action="append", choices=SCOPES, help="what it may do; may be given again"
    )
    text = "issue, list and revoke the tokens of a database"
    tokens = commands.add_parser("tokens", help=text, description=_sentence(text), **HELP)
    verbs = tokens.add_subparsers(required=True, metavar="COMMAND")
    issue = _command(verbs, "issue", _issue, "make a token and print it, this once", database, named)
    issue.add_argument("--expires", type=_span, metavar="TIME", help="from now, like 12h, 90d or 52w [never]")
    _command(verbs, "list", _list, "list every token that was issued", database)
    revoke = _command(verbs, "revoke", _revoke, "take a token out of use, within seconds, for ever", database)
    revoke.add_argument("name", metavar="NAME")
    _command(verbs, "hash", _hash, "print the lines of a token file for a token read from standard input", named)


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    function: object,
    text: str,
    *parents: argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=_sentence(text), parents=parents, **HELP)
    parser.set_defaults(command=function)
    return parser


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _database(text: str) -> Path | str:
    return text if "://" in text else Path(text)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _span(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"a time is hours, days or weeks, like 12h, 90d or 52w, not {text!r}")
    return int(found[1]) * {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}[found[2]]


def _serve(arguments: argparse.Namespace) -> int:
    token_file = arguments.token_file or os.environ.get("SWITCHPOINT_TOKENS") or None
    tokens: tuple[Token, ...] = ()
    if token_file is not None:
        try:
            tokens = load_tokens(Path(token_file))
        except TokenFileError as error:
            return _complain(f"token file {token_file}: {error}", 2)
    if not tokens and not is_loopback(arguments.host) and not _any_issued(arguments.db):
        return _complain(
            f"{arguments.host} is not a loopback address, and no token is valid: issue one ({PROGRAM} tokens issue), "
            "give --token-file FILE (or SWITCHPOINT_TOKENS) with lines of scope:name:token, or listen on 127.0.0.1",
            2,
        )
    try:
        settings = Settings(
            database=arguments.db,
            tokens=tokens,
            rate_limit=arguments.rate_limit,
            cors_origins=tuple(arguments.cors_origin),
            trusted_proxies=tuple(arguments.trusted_proxy),
            shutdown_delay_s=arguments.shutdown_delay,
            shutdown_grace_s=arguments.shutdown_grace,
        )
    except ValidationError as error:
        return _complain("; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors()), 2)
    logs.configure(form=arguments.log_format, level=arguments.log_level)
    with contextlib.closing(_listen(arguments.host, arguments.port)) as listener:
        from service.server import serve

        serve(settings, listener, announce=_announce)
    return 0


def _any_issued(database: Path | str) -> bool:
    """Whether a token of the database is valid now. Does not make one that is not there."""
    from service.keyring import num_valid

    if isinstance(database, Path) and not database.is_file():
        return False
    with contextlib.closing(_open_existing(database)) as store:
        return num_valid(store, now=datetime.now(UTC)) > 0


def _issue(arguments: argparse.Namespace) -> int:
    from service.keyring import issue
    from service.store import Store

    now = datetime.now(UTC)
    expires = None if arguments.expires is None else now + arguments.expires
    with contextlib.closing(Store(arguments.db)) as store:
        secret = issue(store, name=arguments.name, scopes=arguments.scope, expires=expires, now=now)
    until = "for ever" if expires is None else f"until {expires:%Y-%m-%d %H:%M} UTC"
    note = f"token {arguments.name!r} ({', '.join(sorted(set(arguments.scope)))}), valid {until}"
    print(f"{PROGRAM}: {note}; it is shown this once:", file=sys.stderr, flush=True)
    print(secret)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from service.keyring import listed

    with contextlib.closing(_open_existing(arguments.db)) as store:
        rows = listed(store)
    table = [["name", "scopes", "issued", "expires", "revoked"]]
    for row in rows:
        moments = ((row[key] or "-")[:19] for key in ("created", "expires", "revoked"))
        table.append([row["name"], ",".join(row["scopes"]), *moments])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    from service.keyring import revoke

    with contextlib.closing(_open_existing(arguments.db)) as store:
        revoke(store, name=arguments.name, now=datetime.now(UTC))
    print(f"revoked token {arguments.name!r}: running services refuse it within seconds")
    return 0


def _hash(arguments: argparse.Namespace) -> int:
    secret = sys.stdin.readline().strip()
    if problem := check_secret(secret):
        return _complain(f"the token on standard input {problem}", 2)
    for scope in sorted(set(arguments.scope)):
        print(f"{scope}:{arguments.name}:sha256:{digest(secret)}")
    return 0


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
