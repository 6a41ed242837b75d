"""A layout file: YAML that says by regular expressions where images and masks lie; `kerpape.yaml` explains every field.

All values are taken as the text that stands in the file, so that 0012 stays 0012.
"""

from __future__ import annotations

import difflib
import re
import string
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

import yaml

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.layouts.layout import Layout
from dataset_conversion.layouts.participants import Participants
from dataset_conversion.layouts.patterns import GROUPS, MASK, Patterns, layout
from nnunet_transformers.common.problems import Finding

_ABOUT = ("description", "reference", "licence")
_FIELDS = (
    *("images", "mask", "masks", "drawn_on", "subject_name", "test", "ignore", "exclude", "table"),
    *_ABOUT,
)
_TABLE_FIELDS = ("file", "key", "session", "site", "columns")
_IMAGE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# Columns of the case table.
_RESERVED = re.compile(r"case|subject|session|site|split|mask(_\d+)?", re.IGNORECASE)
_NOT_WILDCARDS = "These are regular expressions, not wildcards: .* stands for any text, \\. for a dot."


def example() -> str:
    """The text of the commented layout file that comes with the package."""
    return resources.files("dataset_conversion.layouts").joinpath("kerpape.yaml").read_text(encoding="utf-8")


def read_layout(path: Path) -> Layout:
    """Read a layout file. Its name without the ending is that of the layout.

    Raises:
        ConversionError: naming the line and the field of everything that is wrong.
    """
    reader = _Reader(path)
    patterns = _patterns(reader, _root(path))
    if reader.problems:
        raise ConversionError([finding for _, finding in sorted(reader.problems, key=lambda each: each[0])])
    return layout(patterns, path.stem)


def _root(path: Path) -> yaml.Node:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise stop("LAYOUT_FILE", f"cannot read the layout file {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise stop("LAYOUT_FILE", f"{path} is not UTF-8 text", "Save it as UTF-8 text from an editor.") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        remedy = "Indent with spaces, and put expressions in single quotes."
        raise stop("LAYOUT_FILE", f"{where}: {error.problem or error.context}", remedy) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        remedy = "Remove it, or save the file as UTF-8 text."
        raise stop("LAYOUT_FILE", f"{path}, line {line}: a character that no text has", remedy) from None
    if not isinstance(root, yaml.MappingNode):
        problem = "is empty" if root is None else "does not consist of fields (name: value)"
        raise stop("LAYOUT_FILE", f"{path} {problem}", "It needs at least images: and mask:.")
    return root


@dataclass
class _Reader:
    """Takes values from YAML nodes, and notes what is wrong with them instead of stopping."""

    path: Path
    problems: list[tuple[int, Finding]] = field(default_factory=list)
    """With the line of each."""

    def note(
        self,
        node: yaml.Node,
        name: str,
        problem: str,
        remedy: str = "",
        code: Literal["LAYOUT_FIELD", "LAYOUT_REGEX"] = "LAYOUT_FIELD",
        files: Sequence[tuple[str, str]] = (),
    ) -> None:
        line = node.start_mark.line + 1
        finding = Finding(code, f"{self.path}, line {line}: {name}: {problem}", remedy, files=tuple(files))
        self.problems.append((line, finding))

    def fields(self, node: yaml.Node, name: str, known: Collection[str] = ()) -> dict[str, yaml.Node]:
        """The entries of a mapping in the order of the file; any name is allowed where none is known."""
        if not isinstance(node, yaml.MappingNode):
            self.note(node, name, "has to hold fields of its own (name: value), indented below it")
            return {}
        entries: dict[str, yaml.Node] = {}
        for key, value in node.value:
            own = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if known and own not in known:
                self.note(key, own, "there is no such field" + _did_you_mean(own, known), f"There is {_list(known)}.")
            elif own in entries:
                self.note(key, own, "is there twice", "Leave one; several expressions make a list: [ 'a', 'b' ].")
            else:
                entries[own] = value
        return entries

    def text(self, node: yaml.Node, name: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.note(node, name, "has to be one piece of text")
            return ""
        if not node.value.strip() or (node.tag.endswith(":null") and node.style is None):
            self.note(node, name, "is empty", "Fill it in, or remove the line.")
            return ""
        return unicodedata.normalize("NFC", node.value)

    def texts(self, node: yaml.Node, name: str) -> dict[str, yaml.Node]:
        """One text or a list of texts, with the node of each."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        return {text: each for each in nodes if (text := self.text(each, name))}

    def choice(self, node: yaml.Node, name: str, choices: Collection[str]) -> str:
        text = self.text(node, name)
        if text and text not in choices:
            self.note(node, name, f"is {text!r}" + _did_you_mean(text, choices), f"It can be {_list(choices, 'or')}.")
        return text

    def expressions(self, node: yaml.Node, name: str) -> dict[re.Pattern[str], yaml.Node]:
        """One regular expression or a list of them, with the node of each."""
        compiled = {}
        for text, each in self.texts(node, name).items():
            shown = [("expression", text)]
            if any(ord(character) < 32 for character in text):
                remedy = "In double quotes YAML reads \\b and \\t as special characters: use single quotes."
                self.note(each, name, "has a control character", remedy, "LAYOUT_REGEX", [("expression", repr(text))])
                continue
            try:
                compiled[re.compile(text)] = each
            except re.error as error:
                if error.pos is not None:
                    shown.append(("", " " * error.pos + "^"))
                self.note(each, name, f"is not an expression: {error}", _NOT_WILDCARDS, "LAYOUT_REGEX", shown)
            except OverflowError as error:
                self.note(each, name, f"is not an expression: {error}", _NOT_WILDCARDS, "LAYOUT_REGEX", shown)
        return compiled


def _patterns(reader: _Reader, root: yaml.Node) -> Patterns:
    fields = reader.fields(root, "the file", _FIELDS)
    for name in ("images", "mask"):
        if name not in fields:
            reader.note(root, name, "is missing", "A layout file needs images: and mask:.")
    images = reader.fields(fields["images"], "images") if "images" in fields else {}
    if "images" in fields and not images and not reader.problems:
        reader.note(fields["images"], "images", "names no image", "Add one, such as T1w: 'expression'.")
    _check_image_names(reader, images)

    name_node = fields.get("subject_name")
    subject_name = reader.text(name_node, "subject_name") if name_node else "{subject}"
    needed = _groups_of_name(reader, name_node, subject_name) if name_node else {"subject"}
    expressions = {
        label: _paths(reader, node, label, needed)
        for label, node in {
            **{f"images.{name}": node for name, node in images.items()},
            **({MASK: fields[MASK]} if MASK in fields else {}),
        }.items()
    }
    test = tuple(reader.expressions(fields["test"], "test")) if "test" in fields else None
    if test is not None and any("split" in each.groupindex for several in expressions.values() for each in several):
        problem = "there is a group split as well"
        reader.note(fields["test"], "test", problem, "Say it one way.")
    masks = reader.choice(fields["masks"], "masks", ("one", "union")) if "masks" in fields else "one"
    return Patterns(
        images={name: expressions[f"images.{name}"] for name in images},
        mask=expressions.get(MASK, ()),
        masks="union" if masks == "union" else "one",
        test=test,
        ignore=tuple(reader.expressions(fields["ignore"], "ignore")) if "ignore" in fields else (),
        exclude=tuple(reader.texts(fields["exclude"], "exclude")) if "exclude" in fields else (),
        subject_name=subject_name,
        drawn_on=reader.choice(fields["drawn_on"], "drawn_on", images) if "drawn_on" in fields and images else "",
        participants=_table(reader, fields["table"]) if "table" in fields else None,
        about={name: reader.text(fields[name], name) for name in _ABOUT if name in fields},
    )


def _check_image_names(reader: _Reader, images: Mapping[str, yaml.Node]) -> None:
    for name, node in images.items():
        label = f"images.{name}"
        if not _IMAGE_NAME.fullmatch(name):
            reader.note(node, label, "the name of an image is a letter, then letters, digits, - and _")
        elif _RESERVED.fullmatch(name):
            reader.note(node, label, "the case table has a column of this name", "Choose another, such as T1w.")
        elif name.casefold() in {other.casefold() for other in images if other != name}:
            reader.note(node, label, "two images differ in upper and lower case only", "Choose another name.")


def _paths(reader: _Reader, node: yaml.Node, name: str, needed: Collection[str]) -> tuple[re.Pattern[str], ...]:
    """Expressions for whole paths: with all groups that make the subject's name, and none that nobody reads."""
    expressions = reader.expressions(node, name)
    if isinstance(node, yaml.SequenceNode) and not node.value:
        reader.note(node, name, "is an empty list", "Give at least one expression.")
    known = tuple(dict.fromkeys([*GROUPS, *sorted(needed)]))
    for expression, own in expressions.items():
        shown = [("expression", expression.pattern)]
        for group in expression.groupindex:
            if group not in known:
                problem = f"there is no group {group!r}" + _did_you_mean(group, known)
                remedy = f"There is {_list(known)}; for others write (?:…) instead of (?P<{group}>…)."
                reader.note(own, name, problem, remedy, "LAYOUT_REGEX", shown)
        for group in sorted({"subject", *needed} - set(expression.groupindex)):
            why = "" if group == "subject" else ", which subject_name needs"
            remedy = f"Write (?P<{group}>…) around the part of the path that says it, such as (?P<{group}>[^/]+)."
            reader.note(own, name, f"has no group {group}{why}", remedy, "LAYOUT_REGEX", shown)
    return tuple(expressions)


def _groups_of_name(reader: _Reader, node: yaml.Node, template: str) -> set[str]:
    """The groups in the braces of ``subject_name``."""
    remedy = "Write groups in braces, such as '{site}{subject}'."
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        reader.note(node, "subject_name", f"{template!r}: {error}", remedy)
        return {"subject"}
    plain = {name for _, name, spec, conversion in parts if name and name.isidentifier() and not (spec or conversion)}
    if template and (not plain or len(plain) < len({name for _, name, _, _ in parts})):
        reader.note(node, "subject_name", f"{template!r} is not made of text and groups", remedy)
    return plain | {"subject"}


def _table(reader: _Reader, node: yaml.Node) -> Participants:
    fields = reader.fields(node, "table", _TABLE_FIELDS)
    texts = {name: reader.text(value, f"table.{name}") for name, value in fields.items() if name != "columns"}
    for name in ("file", "key"):
        if isinstance(node, yaml.MappingNode) and name not in fields:
            reader.note(node, f"table.{name}", "is missing", "table: needs file: and key:.")
    file = Path(texts.get("file", ""))
    beside = reader.path.parent.resolve() / file
    return Participants(
        path=beside if beside.is_file() else file,
        key=texts.get("key", ""),
        session=texts.get("session", ""),
        site=texts.get("site", ""),
        columns=tuple(reader.texts(fields["columns"], "table.columns")) if "columns" in fields else (),
    )


def _did_you_mean(name: str, known: Collection[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower, 1)
    return f"; did you mean {by_lower[nearest[0]]}?" if nearest else ""


def _list(names: Collection[str], last: str = "and") -> str:
    *others, final = names
    return f"{', '.join(others)} {last} {final}" if others else final
