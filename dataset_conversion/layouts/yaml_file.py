"""A layout file: YAML that says by regular expressions where images and masks lie; `kerpape.yaml` explains every field.

All values are taken as the text that stands in the file, so that 0012 stays 0012.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import yaml

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.layouts.layout import Layout
from dataset_conversion.layouts.participants import Participants
from dataset_conversion.layouts.patterns import GROUPS, MASK, Patterns, layout
from dataset_conversion.options import Masks
from dataset_conversion.tables.case_table import is_own_column
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.words import joined, nearest
from nnunet_transformers.common.yaml_fields import NotReadableError, Problem, Problems, Value, compose

_ABOUT = ("description", "reference", "licence")
_FIELDS = (
    *(
        "images",
        "mask",
        "masks",
        "mask_labels",
        "mask_threshold",
        "mask_regions",
        "drawn_on",
        "subject_name",
        "test",
        "ignore",
        "exclude",
        "table",
    ),
    *_ABOUT,
)
_TABLE_FIELDS = ("file", "key", "session", "site", "columns")
_IMAGE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NOT_WILDCARDS = "These are regular expressions, not wildcards: .* stands for any text, \\. for a dot."


def example() -> str:
    """The text of the commented layout file that comes with the package."""
    return resources.files("dataset_conversion.layouts").joinpath("kerpape.yaml").read_text(encoding="utf-8")


def read_layout(path: Path) -> Layout:
    """Read a layout file. Its name without the ending is that of the layout.

    Raises:
        ConversionError: naming the line and the field of everything that is wrong.
    """
    root = _root(path)
    patterns = _patterns(root)
    if found := root.problems.in_order:
        raise ConversionError([_finding(path, each) for each in found])
    return layout(patterns, path.stem)


def _root(path: Path) -> _Value:
    try:
        root = compose(path)
    except NotReadableError as error:
        problem, remedy = {
            "file": (f"cannot read the layout file {path}: {error.problem}", ""),
            "encoding": (f"{path} is not UTF-8 text", "Save it as UTF-8 text from an editor."),
            "character": (
                f"{path}, line {error.line}: a character that no text has",
                "Remove it, or save the file as UTF-8 text.",
            ),
            "syntax": (
                f"{path}, line {error.line}, column {error.column}: {error.problem}",
                "Indent with spaces, and put expressions in single quotes.",
            ),
        }[error.kind]
        raise stop("LAYOUT_FILE", problem, remedy) from None
    if not isinstance(root, yaml.MappingNode):
        problem = "is empty" if root is None else "does not consist of fields (name: value)"
        raise stop("LAYOUT_FILE", f"{path} {problem}", "It needs at least images: and mask:.")
    return _Value(root, "", Problems(path))


def _finding(path: Path, one: Problem) -> Finding:
    return Finding(one.code, f"{path}, line {one.line}: {one.name}: {one.sentence}", one.remedy, files=one.files)


class _Value(Value):
    """A value of a layout file; all are text, or lists and mappings of it."""

    def wrong(self, sentence: str, remedy: str = "") -> None:
        self.problem(sentence, "LAYOUT_FIELD", remedy)

    def wrong_expression(self, sentence: str, remedy: str, shown: Sequence[tuple[str, str]]) -> None:
        self.problem(sentence, "LAYOUT_REGEX", remedy, shown)

    def say_no_mapping(self, allowed: Collection[str]) -> None:
        self.wrong("has to hold fields of its own (name: value), indented below it")

    def say_unknown(self, key: str, allowed: Collection[str]) -> None:
        sentence = "there is no such field" + nearest(key, allowed)
        replace(self, name=key).wrong(sentence, f"There is {joined(list(allowed))}.")

    def say_repeated(self, key: str, first: Value) -> None:
        remedy = "Leave one; several expressions make a list: [ 'a', 'b' ]."
        replace(self, name=key).wrong("is there twice", remedy)

    def say_missing(self, key: str) -> None:
        needs = "table: needs file: and key:." if self.name else "A layout file needs images: and mask:."
        replace(self, name=f"{self.name}.{key}".lstrip(".")).wrong("is missing", needs)

    def text(self) -> str:
        if not isinstance(self.node, yaml.ScalarNode):
            self.wrong("has to be one piece of text")
            return ""
        if not self.node.value.strip() or (self.node.tag.endswith(":null") and self.node.style is None):
            self.wrong("is empty", "Fill it in, or remove the line.")
            return ""
        return unicodedata.normalize("NFC", self.node.value)

    def one_of(self, choices: Collection[str]) -> str:
        text = self.text()
        if text and text not in choices:
            self.wrong(f"is {text!r}" + nearest(text, choices), f"It can be {joined(list(choices), 'or')}.")
        return text

    def texts(self) -> dict[str, _Value]:
        """One text or a list of texts, with the value of each."""
        nodes = self.node.value if isinstance(self.node, yaml.SequenceNode) else [self.node]
        values = [replace(self, node=node) for node in nodes]
        return {text: value for value in values if (text := value.text())}

    def expressions(self) -> dict[re.Pattern[str], _Value]:
        """One regular expression or a list of them, with the value of each."""
        compiled = {}
        for text, value in self.texts().items():
            shown = [("expression", text)]
            if any(ord(character) < 32 for character in text):
                remedy = "In double quotes YAML reads \\b and \\t as special characters: use single quotes."
                value.wrong_expression("has a control character", remedy, [("expression", repr(text))])
                continue
            try:
                compiled[re.compile(text)] = value
            except re.error as error:
                if error.pos is not None:
                    shown.append(("", " " * error.pos + "^"))
                value.wrong_expression(f"is not an expression: {error}", _NOT_WILDCARDS, shown)
            except OverflowError as error:
                value.wrong_expression(f"is not an expression: {error}", _NOT_WILDCARDS, shown)
        return compiled


def _patterns(root: _Value) -> Patterns:
    fields = root.mapping(_FIELDS, required=("images", "mask"))
    images = fields["images"].mapping() if "images" in fields else {}
    if "images" in fields and not images and not root.problems.found:
        fields["images"].wrong("names no image", "Add one, such as T1w: 'expression'.")
    _check_image_names(images)

    subject_name, needed = "{subject}", {"subject"}
    if "subject_name" in fields:
        subject_name = fields["subject_name"].text()
        needed = _groups_of_name(fields["subject_name"], subject_name)
    expressions = {name: _paths(value, needed) for name, value in images.items()}
    mask = _paths(fields[MASK], needed) if MASK in fields else ()
    test = tuple(fields["test"].expressions()) if "test" in fields else None
    if test is not None and any("split" in each.groupindex for some in (*expressions.values(), mask) for each in some):
        fields["test"].wrong("there is a group split as well", "Say it one way.")
    masks = fields["masks"].one_of(("one", "union")) if "masks" in fields else "one"
    return Patterns(
        images=expressions,
        mask=mask,
        masks="union" if masks == "union" else "one",
        test=test,
        ignore=tuple(fields["ignore"].expressions()) if "ignore" in fields else (),
        exclude=tuple(fields["exclude"].texts()) if "exclude" in fields else (),
        subject_name=subject_name,
        drawn_on=fields["drawn_on"].one_of(images) if "drawn_on" in fields and images else "",
        lesion=_lesion(fields),
        participants=_table(fields["table"]) if "table" in fields else None,
        about={name: fields[name].text() for name in _ABOUT if name in fields},
    )


def _lesion(fields: Mapping[str, _Value]) -> Masks:
    """What of a mask is lesion."""
    labels = _labels(fields["mask_labels"]) if "mask_labels" in fields else ()
    regions = fields["mask_regions"].mapping() if "mask_regions" in fields else {}
    named = tuple(f"{name}={','.join(_labels(value))}" for name, value in regions.items())
    threshold = fields["mask_threshold"].text() if "mask_threshold" in fields else ""
    if threshold and not _is_number(threshold):
        fields["mask_threshold"].wrong(f"is {threshold!r}, not a number", "Write 0.5, say.")
        threshold = ""
    said = [name for name in ("mask_labels", "mask_threshold", "mask_regions") if name in fields]
    for name in said[1:]:
        fields[name].wrong(f"there is {said[0]} as well", "Say it one way.")
    return Masks(labels, float(threshold) if threshold else None, named)


def _labels(value: _Value) -> tuple[str, ...]:
    labels = value.texts()
    for text, own in labels.items():
        if not _is_number(text):
            own.wrong(f"is {text!r}, not a number", "Write labels as [1, 2, 4].")
    return tuple(labels)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _check_image_names(images: Mapping[str, _Value]) -> None:
    for name, value in images.items():
        if not _IMAGE_NAME.fullmatch(name):
            value.wrong("the name of an image is a letter, then letters, digits, - and _")
        elif is_own_column(name):
            value.wrong("the case table has a column of this name", "Choose another, such as T1w.")
        elif name.casefold() in {other.casefold() for other in images if other != name}:
            value.wrong("two images differ in upper and lower case only", "Choose another name.")


def _paths(value: _Value, needed: Collection[str]) -> tuple[re.Pattern[str], ...]:
    """Expressions for whole paths: with all groups that make the subject's name, and none that nobody reads."""
    expressions = value.expressions()
    if value.is_list and not value.node.value:
        value.wrong("is an empty list", "Give at least one expression.")
    known = tuple(dict.fromkeys([*GROUPS, *sorted(needed)]))
    for expression, own in expressions.items():
        shown = [("expression", expression.pattern)]
        for group in expression.groupindex:
            if group not in known:
                problem = f"there is no group {group!r}" + nearest(group, known)
                remedy = f"There is {joined(known)}; for others write (?:…) instead of (?P<{group}>…)."
                own.wrong_expression(problem, remedy, shown)
        for group in sorted({"subject", *needed} - set(expression.groupindex)):
            why = "" if group == "subject" else ", which subject_name needs"
            remedy = f"Write (?P<{group}>…) around the part of the path that says it, such as (?P<{group}>[^/]+)."
            own.wrong_expression(f"has no group {group}{why}", remedy, shown)
    return tuple(expressions)


def _groups_of_name(value: _Value, template: str) -> set[str]:
    """The groups in the braces of `subject_name`."""
    remedy = "Write groups in braces, such as '{site}{subject}'."
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        value.wrong(f"{template!r}: {error}", remedy)
        return {"subject"}
    plain = {name for _, name, spec, conversion in parts if name and name.isidentifier() and not (spec or conversion)}
    if template and (not plain or len(plain) < len({name for _, name, _, _ in parts})):
        value.wrong(f"{template!r} is not made of text and groups", remedy)
    return plain | {"subject"}


def _table(value: _Value) -> Participants:
    fields = value.mapping(_TABLE_FIELDS, required=("file", "key"))
    texts = {name: each.text() for name, each in fields.items() if name != "columns"}
    file = Path(texts.get("file", ""))
    beside = value.problems.path.parent.resolve() / file
    return Participants(
        path=beside if beside.is_file() else file,
        key=texts.get("key", ""),
        session=texts.get("session", ""),
        site=texts.get("site", ""),
        columns=tuple(fields["columns"].texts()) if "columns" in fields else (),
    )
