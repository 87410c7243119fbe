"""`up`: start the service. Its options are the fields of `Settings`, so that none can be forgotten."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from deployments.cli.console import console, write_error, write_json
from deployments.cli.options import FAILED, Json
from deployments.cli.up_display import JsonDisplay, UpDisplay
from deployments.cli.validate import problem_json, write_problems
from deployments.ray_host import RayRemarks
from deployments.settings import Settings
from graph.errors import InvalidRequest, InvalidSpec, ModelyardError

FIRST = ("nodes", "host", "port", "store", "address", "allow_private")
"""Settings that `--help` lists first."""
HELP = """Start the service: the gateway and the nodes, on a local Ray or on a cluster.

Shows the nodes while they load and prints where everything is. Ctrl-C or SIGTERM drains and stops it.
Every setting is also a variable, MODELYARD_PORT for --port; the API key is one only: MODELYARD_API_KEY.
"""


def build_up() -> Callable[..., None]:
    """Return the command, its parameters made from the fields of `Settings`."""

    def up(as_json: bool = False, **options: Any) -> None:
        start(options, as_json=as_json)

    parameters = [*_parameters(), _parameter("as_json", Json, default=False)]
    up.__doc__ = HELP
    up.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which `inspect` looks for
    up.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return up


def start(options: dict[str, Any], *, as_json: bool = False) -> None:
    """Start the service with these settings, show what happens, and exit with its code."""
    try:
        settings = Settings.from_env(**{name: _as_setting(value) for name, value in options.items()})
    except InvalidRequest as error:
        raise typer.BadParameter(error.message) from error
    from deployments.service import serve_forever  # Ray and the web framework, which no other command pays for

    target = console()
    target.file = sys.stdout  # held on to: Ray prints on whatever has that name
    display = JsonDisplay(target.file) if as_json else UpDisplay(target)
    try:
        with redirect_stdout(RayRemarks()), display:
            code = serve_forever(settings, display.handle)
    except InvalidSpec as error:
        _report(error, as_json)
        code = FAILED
    except ModelyardError as error:
        write_error(error.message, as_json=as_json, code=error.code, param=error.param)
        code = FAILED
    raise typer.Exit(code)


def _report(error: InvalidSpec, as_json: bool) -> None:
    if as_json:
        write_json({"ok": False, "problems": [problem_json(problem) for problem in error.problems]})
    else:
        write_problems(error.problems)


def _as_setting(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _parameters() -> Iterator[inspect.Parameter]:
    for name in sorted(Settings.model_fields, key=lambda name: name not in FIRST):
        field = Settings.model_fields[name]
        if SecretStr not in (field.annotation, *get_args(field.annotation)):  # arguments show in the process list
            yield _parameter(name, Annotated[_option_type(field.annotation), _option(name, field)])


def _parameter(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(name: str, field: FieldInfo) -> Any:
    flag = "--" + name.replace("_", "-")
    is_switch = field.annotation is bool
    return typer.Option(
        f"{flag}/--no-{flag[2:]}" if is_switch else flag,
        help=_help(name, field),
        show_default=False,  # the default is the setting's, which a variable may have changed
        metavar="|".join(get_args(field.annotation)) if get_origin(field.annotation) is Literal else None,
        exists=name == "nodes",
        rich_help_panel=None if name in FIRST else "More settings",
    )


def _help(name: str, field: FieldInfo) -> str:
    text = field.description or f"{name.replace('_', ' ').capitalize()}."
    default = "" if field.default in (None, (), False, "") else f" Default: {field.default}."
    return text.replace("`", "") + default


def _option_type(annotation: Any) -> Any:
    """Return what typer reads for a field; always optional, so that an absent option leaves the variable its say."""
    if get_origin(annotation) is tuple:
        return types.GenericAlias(list, get_args(annotation)[:1]) | None
    if get_origin(annotation) is Literal:
        return str | None
    if get_origin(annotation) in (Union, types.UnionType):
        return annotation
    return annotation | None
