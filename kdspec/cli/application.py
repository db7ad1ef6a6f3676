"""The group of all commands: the module of a built-in one is imported with it, other packages only when needed."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from kdspec.cli.built_in_commands import COMMANDS, BuiltInCommands
from kdspec.cli.exits import ExitCode
from kdspec.cli.invocation import Invocation
from kdspec.cli.own_stdout import own_stdout
from kdspec.diagnostics.diagnostic import closest
from kdspec.registry.plugins import GROUP

_WELCOME = """\
kdspec turns a YAML spec into a knowledge-distillation run.

  kdspec init                      write a first spec
  kdspec validate spec.yaml        check it: errors with their place and fix
  kdspec plan spec.yaml            show what would run
  kdspec run spec.yaml             run it
  kdspec runs                      list the runs that there are
  kdspec list loss                 list the components that a spec can name
  kdspec show logit_loss kl        show one component in full
  kdspec explain KD201             explain an error code
  kdspec doctor                    check this machine, and what to change

`kdspec --help` lists all commands; `kdspec --install-completion` completes them in your shell.
"""
_EPILOG = "The options may be given before or after the command."
_EMPTY = "the value is empty; is a variable of the command not set?"
_GLOBAL = frozenset(
    {"--plugin", "--traceback", "--trust-remote-code", "--untrusted", "--quiet", "-q", "--verbose", "-v"}
)
_NO_CHOICE = "' is not one of "


def application() -> TyperGroup:
    """The group of all commands; its `obj` is an `Invocation`."""
    app = typer.Typer(
        cls=_Commands,
        callback=_root,
        invoke_without_command=True,
        add_completion=True,
        rich_markup_mode=None,
        help="Turn a YAML spec into a knowledge-distillation run.",
        epilog=_EPILOG,
    )
    group = get_command(app)
    assert isinstance(group, TyperGroup), "it has a callback"
    group.commands = BuiltInCommands()
    return group


class _Commands(TyperGroup):
    """Loads other packages only for commands that are not built in, so that built-in ones start fast."""

    commands: MutableMapping[str, Any]
    _complete = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own = frozenset(COMMANDS)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _options_first(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # typer would end with the code that means a bad spec.
            raise typer.Exit(ExitCode.PIPE) from None
        except typer.BadParameter as error:
            error.message = _option_error(error.message)
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name in self._own:
            _refuse_empty(rest)
        return name, command, rest

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._add_others(ctx.obj)
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        self._add_others(ctx.obj)
        return list(self.commands)

    def _add_others(self, invocation: Invocation) -> None:
        if self._complete:
            return
        self._complete = True
        if not invocation.plugin_files and not importlib.metadata.entry_points(group=GROUP):
            return
        app = typer.Typer(rich_markup_mode=None)
        try:
            with own_stdout(invocation):
                for answer in invocation.plugins.call("kdspec_commands", commands=app):
                    if answer.error is not None:
                        _warn(invocation, answer.plugin.distribution, answer.error)
                others = get_group(app).commands
        except Exception as error:  # noqa: BLE001 - typer reads the functions of plugins here
            _warn(invocation, "a plugin", error)
            return
        for name, command in others.items():
            self.commands.setdefault(name, command)


def _warn(invocation: Invocation, who: str, error: BaseException) -> None:
    invocation.err.say(f"warning: the commands of {who} could not be added: {type(error).__name__}: {error}")


def _option_error(message: str) -> str:
    """The error of an option in the form of kdspec's messages, with the closest choice."""
    message = message.removeprefix("Value error, ")  # pydantic's, through which typer reads them
    value, found, listed_choices = message.rpartition(_NO_CHOICE)
    if not found or not value.startswith("'"):
        return message
    value, choices = value[1:], re.findall(r"'([^']*)'", listed_choices)
    guess = closest(value, choices)
    listed = ", ".join(f"`{choice}`" for choice in choices)
    return f"`{value}` is not one of {listed}" + (f"; did you mean `{guess}`?" if guess else "")


def _options_first(arguments: Iterable[str]) -> list[str]:
    """The arguments with global options moved to the front, so that they may be given after the command too."""
    first: list[str] = []
    rest: list[str] = []
    given = iter(arguments)
    for argument in given:
        if argument == "--":
            rest += [argument, *given]
        elif argument.partition("=")[0] in _GLOBAL:
            first.append(argument)
            if argument == "--plugin" and (value := next(given, None)) is not None:
                first.append(value)
        else:
            rest.append(argument)
    return first + rest


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise `typer.BadParameter` for a value without characters, which a variable that is not set leaves behind."""
    before = ""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if equals and option.startswith("--") and not value.strip():
            raise typer.BadParameter(_EMPTY, param_hint=option)
        if not argument.strip():
            raise typer.BadParameter(_EMPTY, param_hint=before if before.startswith("-") else None)
        before = argument


def _set_plugins(context: typer.Context, files: list[str] | None) -> list[str] | None:
    if not all(file.strip() for file in files or ()):
        raise typer.BadParameter(_EMPTY)
    context.obj.plugin_files = tuple(files or ())
    return files


def _set_traceback(context: typer.Context, wanted: bool) -> bool:  # noqa: FBT001 - typer calls it
    if wanted:  # a screen is made when it is first used
        context.obj.err.traceback = context.obj.out.traceback = True
    return wanted


def _set_trust(context: typer.Context, wanted: bool) -> bool:  # noqa: FBT001 - typer calls it
    context.obj.trusts_code = wanted
    return wanted


def _set_untrusted(context: typer.Context, wanted: bool) -> bool:  # noqa: FBT001 - typer calls it
    context.obj.untrusted = wanted
    if wanted and context.obj.trusts_code:
        raise typer.BadParameter("excludes `--trust-remote-code`", param_hint="--untrusted")
    return wanted


def _set_quiet(context: typer.Context, wanted: bool) -> bool:  # noqa: FBT001 - typer calls it
    if wanted and context.obj.detail == "verbose":
        raise typer.BadParameter("excludes `--verbose`", param_hint="--quiet")
    if wanted:
        context.obj.be("quiet")
    return wanted


def _set_verbose(context: typer.Context, wanted: bool) -> bool:  # noqa: FBT001 - typer calls it
    if wanted and context.obj.detail == "quiet":
        raise typer.BadParameter("excludes `--quiet`", param_hint="--verbose")
    if wanted:
        context.obj.be("verbose")
    return wanted


def _print_version(context: typer.Context, wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted and not context.resilient_parsing:  # as when the shell asks for completions
        context.obj.out.say(f"kdspec {importlib.metadata.version('kdspec')}")
        raise typer.Exit


def _root(
    context: typer.Context,
    *,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Load a Python file as a plugin too.", callback=_set_plugins, is_eager=True),
    ] = None,
    traceback: Annotated[
        bool,
        typer.Option("--traceback", help="Print the traceback of an error.", callback=_set_traceback, is_eager=True),
    ] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Run code that comes with models, also from the hub. A spec cannot allow it.",
            callback=_set_trust,
            is_eager=True,
        ),
    ] = False,
    untrusted: Annotated[
        bool,
        typer.Option(
            "--untrusted",
            help="Confine a spec to files below its folder, without hub and environment. For specs from others, as in CI.",
            callback=_set_untrusted,
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Print no progress; warnings, errors and results stay.", callback=_set_quiet
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Print more of a run: each step, all metrics, checkpoints, caches.",
            callback=_set_verbose,
        ),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del plugin, traceback, trust_remote_code, untrusted, quiet, verbose, version
    if context.invoked_subcommand is None:
        context.obj.out.show(_WELCOME)
