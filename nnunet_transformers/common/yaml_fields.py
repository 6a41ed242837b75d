"""Values of a YAML file that know their line and field, so that everything wrong with a file is told at once."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import yaml

from nnunet_transformers.common.problems import user_error
from nnunet_transformers.common.words import nearest

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a field.

    Attributes:
        line: from 1.
        name: the field, as `trainers[2].plans`.
        files: (role, text) to show below the sentence, as of a `Finding`.
    """

    line: int
    name: str
    sentence: str
    code: str
    remedy: str = ""
    files: tuple[tuple[str, str], ...] = ()


@dataclass
class Problems:
    """What is wrong with a file, collected while it is read."""

    path: Path
    found: list[Problem] = field(default_factory=list)

    @property
    def in_order(self) -> list[Problem]:
        """Each once, in the order of the file."""
        return sorted(dict.fromkeys(self.found), key=lambda each: each.line)

    def raise_if_any(self) -> None:
        """Raise one UserError that lists every problem once, in the order of the file."""
        if not self.found:
            return
        lines = [
            f"{self.path}, line {each.line}{f', {each.name}' * bool(each.name)}: {each.sentence} [{each.code}]"
            for each in self.in_order
        ]
        codes = {each.code for each in self.found}
        raise user_error(
            codes.pop() if len(codes) == 1 else "BAD_EXPERIMENT",
            "\n".join(lines),
            "Mend the file and run the command again. Nothing was run.",
        )


@dataclass(frozen=True)
class Value:
    """A value of the file. Each method reads it as one kind of thing, or adds a problem and gives an empty one.

    A subclass words the problems for another kind of file.

    Attributes:
        name: the field, as `trainers[2].plans`.
    """

    node: yaml.Node
    name: str
    problems: Problems

    @property
    def line(self) -> int:
        return self.node.start_mark.line + 1

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    def problem(
        self, sentence: str, code: str = "WRONG_VALUE", remedy: str = "", files: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.problems.found.append(Problem(self.line, self.name, sentence, code, remedy, tuple(files)))

    def mapping(self, allowed: Collection[str] = (), required: Collection[str] = ()) -> dict[str, Self]:
        """The fields of a mapping, all where none is listed; unknown, repeated and missing ones are problems."""
        if not isinstance(self.node, yaml.MappingNode):
            self.say_no_mapping(allowed)
            return {}
        values: dict[str, Self] = {}
        for key_node, node in self.node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            name = f"{self.name}.{key}" if self.name else key
            if allowed and key not in allowed:
                replace(self, node=key_node, name=name).say_unknown(key, allowed)
            elif key in values:
                replace(self, node=key_node, name=name).say_repeated(key, values[key])
            else:
                values[key] = replace(self, node=node, name=name)
        for missing in (name for name in required if name not in values):
            self.say_missing(missing)
        return values

    def say_no_mapping(self, allowed: Collection[str]) -> None:
        self._wrong(f"fields, some of {', '.join(allowed)}")

    def say_unknown(self, key: str, allowed: Collection[str]) -> None:
        known = f"known fields: {', '.join(allowed)}"
        self.problem(f"unknown field{nearest(key, allowed)}; {known}", "UNKNOWN_FIELD")

    def say_repeated(self, key: str, first: Value) -> None:
        self.problem(f"is there twice, first on line {first.line}", "REPEATED")

    def say_missing(self, key: str) -> None:
        self.problem(f"the field {key} is missing", "MISSING_FIELD")

    def items(self, read: Callable[[Self], T]) -> tuple[T, ...]:
        """A list, each of its items read by a function."""
        if not isinstance(self.node, yaml.SequenceNode):
            self._wrong("a list")
            return ()
        return tuple(read(replace(self, node=n, name=f"{self.name}[{i}]")) for i, n in enumerate(self.node.value))

    def text(self) -> str:
        """A text of at least one character."""
        if not isinstance(self.node, yaml.ScalarNode) or not self.node.value.strip():
            self._wrong("a text")
            return ""
        return str(self.node.value)

    def one_of(self, choices: Collection[str]) -> str:
        text = self.text()
        if text and text not in choices:
            self.problem(f"{text!r} is not one of {', '.join(choices)}{nearest(text, choices)}")
        return text

    def integer(self, least: int = 0) -> int:
        text = self._scalar()
        if text is None or not re.fullmatch(r"\d+", text) or int(text) < least:
            self._wrong(f"a whole number of at least {least}")
            return least
        return int(text)

    def number(self, below: float = math.inf) -> float:
        """A finite number above 0."""
        text = self._scalar()
        try:
            number = float(text) if text is not None else math.nan
        except ValueError:
            number = math.nan
        if not 0 < number < below:
            self._wrong("a number above 0" + f" and below {below:g}" * math.isfinite(below))
            return 1.0
        return number

    def path(self, base: Path) -> Path:
        """A path: ~ and $VARIABLE are replaced, and a relative one starts at `base`."""
        text = os.path.expanduser(os.path.expandvars(self.text()))
        if unset := re.search(r"\$\{?(\w+)", text):
            self.problem(f"the environment variable {unset[1]} is not set", "VARIABLE_NOT_SET")
        return base / text

    def _scalar(self) -> str | None:
        return self.node.value if isinstance(self.node, yaml.ScalarNode) else None

    def _wrong(self, expected: str) -> None:
        text = self._scalar()
        shown = repr(text) if text else "fields" if self.is_mapping else "a list" if self.is_list else "nothing"
        self.problem(f"must be {expected}, not {shown}", "WRONG_TYPE")


class NotReadableError(Exception):
    """A file that is no YAML.

    Attributes:
        kind: the file cannot be opened, is not UTF-8, has a character that no text has, or is not YAML.
        line: from 1, where it is known; and the column.
    """

    def __init__(
        self, kind: Literal["file", "encoding", "character", "syntax"], problem: str, line: int = 0, column: int = 0
    ) -> None:
        self.kind = kind
        self.problem = problem
        self.line = line
        self.column = column
        super().__init__(kind, problem, line, column)


def compose(path: Path) -> yaml.Node | None:
    """The content of a YAML file, None where there is none.

    Raises:
        NotReadableError: it cannot be read or is not YAML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise NotReadableError("file", error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise NotReadableError("encoding", str(error)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem or error.context)
        raise NotReadableError("syntax", problem, *((mark.line + 1, mark.column + 1) if mark else ())) from None
    except yaml.reader.ReaderError as error:
        raise NotReadableError("character", str(error), text.count("\n", 0, error.position) + 1) from None


def read_yaml(path: Path) -> Value:
    """The content of an experiment file.

    Raises:
        UserError: the file cannot be read or is not YAML; the text has the line.
    """
    try:
        root = compose(path)
    except NotReadableError as error:
        if error.kind in ("file", "encoding"):
            problem, remedy = f"cannot read {path}: {error.problem}", "Give the path of an experiment file (YAML)."
            raise user_error("UNREADABLE_FILE", problem, remedy) from None
        where = f", line {error.line}" if error.line else ""
        problem = f"{path}{where}: not YAML: {error.problem}"
        raise user_error("NOT_YAML", problem, "Mend the file and run the command again. Nothing was run.") from None
    if root is None:
        raise user_error("EMPTY_FILE", f"{path} is empty", "docs/comparison.md shows an experiment file.")
    return Value(root, "", Problems(path))
