"""A dataclass says everything about the options of a command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from nnunet_transformers.common.command_line import Argument, Command, Group, Option, main, wrong_choices
from nnunet_transformers.common.problems import UserError, user_error


@dataclass(frozen=True)
class Part:
    mode: Annotated[Literal["slow", "fast"], Option("how")] = "slow"
    exclude: Annotated[tuple[str, ...], Option("who", metavar="WHO")] = ()
    align: Annotated[
        Literal["refuse", "resample", "rigid", "affine"],
        Option("as they lie", name="resample", value="resample"),
        Option("move them", name="register", choices=("rigid", "affine")),
    ] = "refuse"


@dataclass(frozen=True)
class Arguments:
    source: Annotated[Path, Argument("SRC", "the folder")]
    number: Annotated[int, Option("a number", metavar="N")]
    second: Annotated[Path | None, Argument("OTHER", "another folder")] = None
    pictures: Annotated[bool, Option("none")] = True
    quick: Annotated[bool, Option("fast")] = False
    example: Annotated[bool, Option("show one", prints=lambda: "an example\n")] = False
    policy: Annotated[Literal["first", "group"] | None, Option("whose")] = None
    part: Annotated[Part, Group("a part")] = field(default_factory=Part)


def run(*argv: str, defaults: dict[str, object] | None = None) -> Any:
    """What the command got."""
    got = []

    def take(arguments: Arguments) -> int:
        got.append(arguments)
        return 3

    command = Command("do", "do it", "%(prog)s x", take, Arguments, defaults or {})
    group = Command("all", "all of it", "%(prog)s do", commands=[command])
    assert main([group], ["all", "do", *argv], prog="program", description="") == 3
    return got[0]


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit, match="2"):
        run(*argv)
    return capsys.readouterr().err


def test_what_is_not_said_is_as_in_the_dataclass() -> None:
    assert run("here", "--number", "1") == Arguments(Path("here"), 1)


def test_each_type_is_parsed_as_itself() -> None:
    given = run(
        *("here", "there", "--number", "2", "--no-pictures", "--quick", "--mode", "fast"),
        *("--exclude", "a", "b", "--exclude", "c", "--register", "rigid"),
    )
    part = Part("fast", ("a", "b", "c"), "rigid")
    assert given == Arguments(Path("here"), 2, Path("there"), pictures=False, quick=True, part=part)
    assert run("here", "--number", "2", "--resample").part.align == "resample"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["here"], "the following arguments are required: --number"),
        (["--number", "1"], "the following arguments are required: SRC"),
        (["here", "--number", "one"], "argument --number: invalid int value: 'one'"),
        (["here", "--number", "1", "--mode", "brisk"], "argument --mode: invalid choice: 'brisk'"),
        (["here", "--number", "1", "--register", "resample"], "argument --register: invalid choice: 'resample'"),
        (["here", "--number", "1", "--exclude"], "argument --exclude: expected at least one argument"),
        (["here", "--number", "1", "--resample", "--register", "rigid"], "not allowed with argument --resample"),
    ],
)
def test_a_mistake_is_exit_code_2_and_says_which_option(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, *argv)


def test_help_has_groups_choices_and_the_defaults_that_say_something(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--help", defaults={"part.mode": "fast"})
    out = capsys.readouterr().out
    assert "a part:\n  --mode {slow,fast}    how (default: fast)\n" in out
    assert "--number N            a number\n" in out
    assert "--exclude WHO [WHO ...]\n                        who\n" in out
    assert "refuse" not in out
    assert "--no-pictures         none\n" in out
    assert out.endswith("example: program all do x\n")


def test_a_command_has_defaults_of_its_own() -> None:
    assert run("here", "--number", "1", defaults={"part.mode": "fast"}).part.mode == "fast"


def test_an_option_that_prints_needs_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--example")
    assert capsys.readouterr().out == "an example\n"


def test_a_script_is_told_the_choices_too() -> None:
    part = Part("brisk", align="elastic")  # type: ignore[arg-type]
    assert wrong_choices(Arguments(Path("here"), 1, part=part)) == [
        "mode is 'brisk'; choose slow, fast",
        "align is 'elastic'; choose refuse, resample, rigid, affine",
    ]
    assert not wrong_choices(Arguments(Path("here"), 1))


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (user_error("CODE", "a problem"), 2)])
def test_what_stops_a_command_is_told_by_its_exit_code(
    raised: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stopped_by(raised, "do") == code
    assert capsys.readouterr().err.startswith("Interrupted." if code == 130 else "a problem")


def test_a_traceback_is_shown_for_what_is_no_users_error_and_where_it_is_asked_for() -> None:
    with pytest.raises(UserError):
        stopped_by(user_error("CODE", "a problem"), "--debug", "do")
    with pytest.raises(ZeroDivisionError):
        stopped_by(ZeroDivisionError(), "do")


def stopped_by(raised: BaseException, *argv: str) -> int:
    def stop(_: None) -> int:
        raise raised

    return main([Command("do", "do it", "%(prog)s", stop)], argv, prog="program", description="")
