"""Values of a YAML file that know their line and field, so that everything wrong with a file is told at once."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import yaml

from nnunet_transformers.common.problems import user_error
from nnunet_transformers.common.words import nearest

T = TypeVar("T")


@dataclass
class Problems:
    """What is wrong with a file, collected while it is read.

    Attributes:
        found: line (from 1), field, sentence and code of each problem.
    """

    path: Path
    found: list[tuple[int, str, str, str]] = field(default_factory=list)

    def add(self, line: int, name: str, problem: str, code: str) -> None:
        self.found.append((line, name, problem, code))

    def raise_if_any(self) -> None:
        """Raise one UserError that lists every problem once, in the order of the file."""
        if not self.found:
            return
        lines = [
            f"{self.path}, line {line}{f', {name}' * bool(name)}: {problem} [{code}]"
            for line, name, problem, code in sorted(dict.fromkeys(self.found), key=lambda each: each[0])
        ]
        codes = {code for *_, code in self.found}
        raise user_error(
            codes.pop() if len(codes) == 1 else "BAD_EXPERIMENT",
            "\n".join(lines),
            "Mend the file and run the command again. Nothing was run.",
        )


@dataclass(frozen=True)
class Value:
    """A value of the file. Each method reads it as one kind of thing, or adds a problem and gives an empty one.

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

    def problem(self, sentence: str, code: str = "WRONG_VALUE") -> None:
        self.problems.add(self.line, self.name, sentence, code)

    def mapping(self, allowed: Collection[str], required: Collection[str] = ()) -> dict[str, Value]:
        """The fields of a mapping; unknown, repeated and missing ones are problems."""
        if not isinstance(self.node, yaml.MappingNode):
            self._wrong(f"fields, some of {', '.join(allowed)}")
            return {}
        values: dict[str, Value] = {}
        for key, node in self.node.value:
            name = f"{self.name}.{key.value}" if self.name else str(key.value)
            value = Value(node, name, self.problems)
            if key.value not in allowed:
                known = f"known fields: {', '.join(allowed)}"
                text = f"unknown field{nearest(str(key.value), allowed)}; {known}"
                self.problems.add(key.start_mark.line + 1, name, text, "UNKNOWN_FIELD")
            elif key.value in values:
                first = values[key.value].line
                self.problems.add(key.start_mark.line + 1, name, f"is there twice, first on line {first}", "REPEATED")
            else:
                values[key.value] = value
        for missing in (name for name in required if name not in values):
            self.problem(f"the field {missing} is missing", "MISSING_FIELD")
        return values

    def items(self, read: Callable[[Value], T]) -> tuple[T, ...]:
        """A list, each of its items read by a function."""
        if not isinstance(self.node, yaml.SequenceNode):
            self._wrong("a list")
            return ()
        return tuple(read(Value(n, f"{self.name}[{i}]", self.problems)) for i, n in enumerate(self.node.value))

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


def read_yaml(path: Path) -> Value:
    """The content of a YAML file.

    Raises:
        UserError: the file cannot be read or is not YAML; the text has the line.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise user_error(
            "UNREADABLE_FILE", f"cannot read {path}: {reason}", "Give the path of an experiment file (YAML)."
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise user_error(
            "NOT_YAML",
            f"{path}{where}: not YAML: {getattr(error, 'problem', None) or error}",
            "Mend the file and run the command again. Nothing was run.",
        ) from None
    if root is None:
        raise user_error("EMPTY_FILE", f"{path} is empty", "docs/comparison.md shows an experiment file.")
    return Value(root, "", Problems(path))
