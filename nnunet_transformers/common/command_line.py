"""Command lines made from dataclasses: an option's type, default, help and choices stand once, at its field.

    @dataclass(frozen=True)
    class Scan:
        source: Annotated[Path, Argument("SRC", "the data folder; it is only read")]
        entity: Annotated[tuple[str, ...], Option("take files with this in their names", metavar="KEY-VALUE")] = ()

    main([Command("scan", "print the case table of a data folder", "%(prog)s ATLAS_2", arguments=Scan, run=run)], ...)

makes `scan SRC [--entity KEY-VALUE [KEY-VALUE ...]]` and calls `run(Scan(...))`. A field is an option, an argument, or
a dataclass of its own, whose fields are options of the same command. A Literal has choices, a bool is a switch
(`--no-NAME` where it is true by default), a tuple takes one or several values and may be given again, and an option
without a default is required.

Argparse rather than tyro 1.0.17 or cyclopts 5.5.2, tried in November 2026: `--exclude a --exclude b` leaves out both
(tyro keeps the last); `--exclude` without a value is an error (cyclopts leaves out nobody); an option may print
something and end; options stay plain dataclasses; and the help of `convert atlas` takes 0.07 s of a processor, where a
smaller trial took 0.14 s (tyro) and 0.15 s (cyclopts) on the same machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from nnunet_transformers import __version__
from nnunet_transformers.common import interrupts
from nnunet_transformers.common.problems import UserError

_Place: TypeAlias = argparse._ActionsContainer


@dataclass(frozen=True)
class Option:
    """What a field's type and default do not say. Several options of one field exclude one another.

    Attributes:
        help: in half a sentence, about the option: of a switch that is off by default what it switches on.
        metavar: what stands for the value in the help; default: the choices, or the option's name.
        name: of the option, without the dashes; default: the field's.
        choices: those of the field that this option has; default: all.
        value: the option is a switch that sets the field to this.
        prints: makes a text; the option is a switch that prints it and ends, whatever else is missing.
    """

    help: str
    metavar: str | None = None
    name: str = ""
    choices: tuple[str, ...] = ()
    value: str | None = None
    prints: Callable[[], str] | None = None


@dataclass(frozen=True)
class Argument:
    """A field that is given by its place; one with a default may be left out."""

    metavar: str
    help: str


@dataclass(frozen=True)
class Group:
    """The heading under which the help shows the options of a dataclass in a dataclass."""

    title: str


@dataclass(frozen=True)
class Command:
    """A command, or a group of them.

    Attributes:
        summary: in half a sentence.
        example: to copy and paste; `%(prog)s` is the program and the command.
        run: gets the arguments, prints the result, and returns the exit code.
        arguments: the dataclass of what the command takes.
        defaults: those of this command, by field, where they differ from the dataclass's: `{"target.name": "ATLAS"}`.
        commands: those of a group.
        metavar: what stands for them in the help.
    """

    name: str
    summary: str
    example: str
    run: Callable[[Any], int] | None = None
    arguments: type | None = None
    defaults: Mapping[str, object] = field(default_factory=dict)
    commands: Sequence[Command] = ()
    metavar: str = "COMMAND"


def main(commands: Sequence[Command], argv: Sequence[str] | None = None, *, prog: str, description: str) -> int:
    """Run one command; the exit code is the command's, 2 for an error of the user's, 130 and 141 when stopped.

    Without `argv` it is the process's own, which Ctrl-C ends from here on (see `interrupts`).
    """
    if argv is None:
        interrupts.take_over()
    with warnings.catch_warnings():
        if not sys.warnoptions:  # other packages' warnings are not for who types this; -W or PYTHONWARNINGS shows them
            warnings.simplefilter("ignore")
        if isinstance(sys.stdout, io.TextIOWrapper):  # names that the terminal cannot show, as Python does on stderr
            sys.stdout.reconfigure(errors="backslashreplace")
        parser = argparse.ArgumentParser(prog=prog, description=description)
        parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        _add_commands(parser, commands, "COMMAND")
        return _run(parser.parse_args(argv))


def wrong_choices(options: Any) -> list[str]:
    """A sentence for each field of a dataclass, and of those in it, whose value is none of its choices."""
    problems = []
    for one in _fields(type(options)):
        value = getattr(options, one.name)
        if one.is_dataclass:
            problems += wrong_choices(value)
        elif one.choices and value not in (*one.choices, one.default):
            problems.append(f"{one.name} is {value!r}; choose {', '.join(one.choices)}")
    return problems


def _run(arguments: argparse.Namespace) -> int:
    command: Command = arguments.command
    assert command.run is not None
    try:
        with interrupts.as_exception():
            code = command.run(_built(command.arguments, arguments) if command.arguments else None)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output, as `head` does, has seen enough; Python flushes what is left of it at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if arguments.debug or not isinstance(error, UserError):
            raise
        print(error, file=sys.stderr)
        return 2


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_switch = action.nargs == 0
        return action.help if is_switch or action.default in (None, [], "") else super()._get_help_string(action)


class _Print(argparse.Action):
    """Prints something and ends, as --version does."""

    def __init__(self, option_strings: Sequence[str], dest: str, const: Callable[[], str], **text: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, **text)
        self._text = const

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(self._text().rstrip())
        parser.exit()


@dataclass(frozen=True)
class _Field:
    """What a field and its annotation say.

    Attributes:
        of_value: the type of one value.
        default: MISSING where there is none.
        is_several: it is a tuple of such values.
        notes: `Option`, `Argument` and `Group`.
    """

    name: str
    default: Any
    of_value: Any
    is_several: bool
    choices: tuple[str, ...]
    notes: tuple[Any, ...]

    @property
    def is_dataclass(self) -> bool:
        return dataclasses.is_dataclass(self.of_value)

    @property
    def is_required(self) -> bool:
        return self.default is dataclasses.MISSING


def _fields(arguments: type) -> Iterator[_Field]:
    annotations = get_type_hints(arguments, include_extras=True)
    for each in dataclasses.fields(arguments):
        kind, *notes = get_args(hint) if get_origin(hint := annotations[each.name]) is Annotated else (hint,)
        if get_origin(kind) in (Union, types.UnionType):
            (kind,) = (one for one in get_args(kind) if one is not type(None))
        if is_several := get_origin(kind) is tuple:
            kind = get_args(kind)[0]
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        yield _Field(each.name, each.default, str if choices else kind, is_several, choices, tuple(notes))


def _built(arguments: type, namespace: argparse.Namespace, prefix: str = "") -> Any:
    """A dataclass of what was parsed."""
    values = {}
    for one in _fields(arguments):
        if one.is_dataclass:
            values[one.name] = _built(one.of_value, namespace, f"{prefix}{one.name}.")
        else:
            value = getattr(namespace, prefix + one.name)
            values[one.name] = tuple(value) if one.is_several else value
    return arguments(**values)


def _add_commands(parser: argparse.ArgumentParser, commands: Sequence[Command], metavar: str) -> None:
    subparsers = parser.add_subparsers(required=True, metavar=metavar)
    for command in commands:
        own = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=f"example: {command.example}",
            formatter_class=_HelpFormatter,
        )
        if command.commands:
            _add_commands(own, command.commands, command.metavar)
        if command.arguments:
            _add_fields(own, command.arguments, own)
        own.set_defaults(command=command, **command.defaults)


def _add_fields(parser: argparse.ArgumentParser, arguments: type, place: _Place, prefix: str = "") -> None:
    for one in _fields(arguments):
        dest = prefix + one.name
        if one.is_dataclass:
            titles = [note.title for note in one.notes if isinstance(note, Group)]
            own = parser.add_argument_group(*titles) if titles else place
            _add_fields(parser, one.of_value, own, f"{dest}.")
        for note in one.notes:
            if isinstance(note, Argument):
                nargs = None if one.is_required else "?"
                place.add_argument(dest, metavar=note.metavar, help=note.help, type=one.of_value, nargs=nargs)
        options = [note for note in one.notes if isinstance(note, Option)]
        of_field = place.add_mutually_exclusive_group() if len(options) > 1 else place
        for option in options:
            # Argparse takes the default from the first of several; the help would show it at each.
            default = one.default if option is options[0] else argparse.SUPPRESS
            _add_option(of_field, one, option, dest, default)


def _add_option(place: _Place, one: _Field, option: Option, dest: str, default: Any) -> None:
    name = option.name or one.name.replace("_", "-")
    if option.prints:
        place.add_argument(f"--{name}", dest=dest, help=option.help, action=_Print, const=option.prints)
    elif option.value is not None:
        place.add_argument(
            f"--{name}", dest=dest, help=option.help, action="store_const", const=option.value, default=default
        )
    elif one.of_value is bool:
        name, action = (f"no-{name}", "store_false") if default else (name, "store_true")
        place.add_argument(f"--{name}", dest=dest, help=option.help, action=action)
    else:
        choices = option.choices or one.choices or None
        place.add_argument(
            f"--{name}",
            dest=dest,
            help=option.help,
            type=one.of_value,
            choices=choices,
            metavar=option.metavar or (None if choices else name.upper().replace("-", "_")),
            required=one.is_required,
            default=None if one.is_required else list(default) if one.is_several else default,
            nargs="+" if one.is_several else None,
            action="extend" if one.is_several else "store",
        )
