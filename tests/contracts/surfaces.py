"""The surfaces that other programs and people rely on, as text: what each is now, and where its golden file lies.

`python -m tests.contracts` writes the golden files anew; read the difference before it is committed.
"""

import contextlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import mixer
import mixer.cli
import service.cli
import shards.cli
import trainer.run
from service.app import create_app
from service.problems import MEDIA_TYPE as PROBLEM
from service.settings import Settings
from trainer.config import Config

FOLDER = Path(__file__).parent
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "switchpoint-mixer": mixer.cli.main,
    "switchpoint-shards": shards.cli.main,
    "switchpoint-service": service.cli.main,
    "trainer": trainer.run.main,
}
METHODS = ("get", "put", "post", "patch", "delete")


def surfaces() -> dict[str, str]:
    """Golden file, relative to this folder -> what it must hold."""
    return {
        **{f"help/{name}.txt": text for name, text in helps()},
        "mixer.json": _as_json({"__all__": mixer.__all__, "ORDER_VERSION": mixer.ORDER_VERSION}),
        "openapi.json": _as_json(openapi()),
        "run.schema.json": _as_json(_without_prose(Config.model_json_schema())),
    }


def golden() -> dict[str, str]:
    """Golden file, relative to this folder -> what it holds."""
    files = [*FOLDER.glob("help/*.txt"), *FOLDER.glob("*.json")]
    return {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in files}


def rewrite() -> None:
    """Make the golden files say what is."""
    found = surfaces()
    for stray in golden().keys() - found.keys():
        (FOLDER / stray).unlink()
    for name, text in found.items():
        (FOLDER / name).parent.mkdir(exist_ok=True)
        (FOLDER / name).write_text(text, encoding="utf-8")


def helps() -> Iterator[tuple[str, str]]:
    """(name, text) of the help of each program and of each of its commands, 100 columns wide."""
    for program, main in PROGRAMS.items():
        text = _help(main)
        yield program, text
        for command in re.findall(r"^    ([a-z]+)(?:  .*)?$", text, re.MULTILINE) if "COMMAND ..." in text else []:
            yield f"{program}-{command}", _help(main, command)


def _help(main: Callable[[list[str]], int], *command: str) -> str:
    output = io.StringIO()
    environment = mock.patch.dict(os.environ, COLUMNS="100")
    with environment, contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return output.getvalue()


def openapi() -> dict[str, Any]:
    """Of the OpenAPI document what a client is written against: operations, parameters and bodies, without prose."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(database=Path(folder) / "runs.db"))
        document = app.openapi()
        app.state.store.close()
    operations = {
        f"{method.upper()} {path}": _operation(item[method])
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    }
    return {"operations": operations, "schemas": _without_prose(document["components"]["schemas"])}


def _operation(operation: dict[str, Any]) -> dict[str, Any]:
    parameters = operation.get("parameters", [])
    bodies = {"request": operation["requestBody"]} if "requestBody" in operation else {}
    return {
        "id": operation["operationId"],
        "parameters": [f"{one['in']} {one['name']}{'' if one['required'] else '?'}" for one in parameters],
        "bodies": {key: _schemas(body) for key, body in {**bodies, **operation["responses"]}.items()},
    }


def _schemas(body: dict[str, Any]) -> dict[str, Any]:
    """Media type -> schema; of problems, which all have the same body, only that there may be one."""
    content = body.get("content", {})
    return {media: media == PROBLEM or _without_prose(one.get("schema", {})) for media, one in content.items()}


def _without_prose(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_prose(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_prose(value)
        for key, value in schema.items()
        if not (key in ("title", "description") and isinstance(value, str))
    }


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
