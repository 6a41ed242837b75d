"""Writes docs/codes.md, the page of all error codes, from the source: `python docs/error_codes.py`.

No code is listed here. A code is what is given for the parameter `code` of one of our functions or classes; what it
means is given for `problem`, `sentence` or `reason`, and what to do for `remedy`. Texts that are put together before
are followed through the function, along each of its paths. What is only known when a command runs is shown by its name.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "codes.md"

# The sections of the page, and where their codes are raised: the first that fits.
_SECTIONS = {
    "Converting: `convert` and `scan`": "dataset_conversion/",
    "Comparing: `compare` and `demo`": r"nnunet_transformers/(comparison|demo)",
    "Trainers by name: `nnUNetv2_train`, `nnUNetv2_predict`, `compare`": "nnunet_transformers/training",
    "The phantom: `phantom`": "nnunet_transformers/phantom",
    "Files, in any command": "",
}
_PROBLEM, _REMEDY = ("problem", "sentence", "reason"), ("remedy",)
_CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_WORDS = {"strerror": "reason", "error": "reason", "text": "value"}
_REASON = "reason for leaving a case out"
_KINDS = {"error", "warning", _REASON}
_VERB = re.compile(r"(is|has|must|may|names|goes|belongs|makes|needs|takes|differs|to be)\b")
_MOST_TEXTS, _MOST_PATHS = 12, 200
_BEGIN, _END = "\x02", "\x03"  # of a name that stands for what is only known later

_HEAD = """\
# Error codes

Every error and every warning ends with a code in brackets. Here are all of them: what the message says, and what to do
(→). Words in *italics* stand for what is filled in when it happens.

An **error** stops the command with exit code 2. In a conversion, `--exclude CASE` leaves a case or a subject out,
`--skip-bad` all that fail, with the reason in the report, and `--allow CODE` accepts the errors of which that is said
here. A **warning** stops nothing; it is in the report and on the page that the command writes.

This page is written by `python docs/error_codes.py` from the source.
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Use:
    """A code where it is raised or noted, with the texts that go with it along one path.

    Attributes:
        path: of the module in the repository.
    """

    code: str
    path: str
    severities: frozenset[str]
    problem: str
    remedy: str


def uses(repository: Path = REPOSITORY) -> list[Use]:
    """Every use of a code in both packages, in the order of the source."""
    modules = [
        _Module(path.relative_to(repository).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for package in ("nnunet_transformers", "dataset_conversion")
        for path in sorted((repository / package).rglob("*.py"))
    ]
    carriers = {name: carrier for module in modules for name, carrier in module.carriers.items()}
    functions = {name: function for module in modules for name, function in module.functions.items()}
    readings = [_Reading(module, carriers, functions) for module in modules]
    constants = {name: text for reading in readings for name, text in reading.constants.items()}
    return [use for reading in readings for use in reading.run(constants)]


def as_page(found: Iterable[Use]) -> str:
    """The page, as Markdown."""
    sections: dict[str, dict[str, list[Use]]] = {name: defaultdict(list) for name in _SECTIONS}
    for use in found:
        section = next(name for name, places in _SECTIONS.items() if re.match(places, use.path))
        sections[section][use.code].append(use)
    lines = [_HEAD]
    for name, codes in sections.items():
        lines.append(f"## {name}\n")
        for code, those in sorted(codes.items()):
            lines += _entry(code, those)
    return "\n".join(lines).rstrip() + "\n"


def _entry(code: str, those: Sequence[Use]) -> Iterator[str]:
    yield f"### {code}\n"
    kind = " or ".join(sorted({severity for use in those for severity in use.severities})).capitalize()
    yield f"{kind}; `--allow {code}` accepts it.\n" if code in _allowable() else f"{kind}.\n"
    remedies: dict[str, list[str]] = defaultdict(list)
    those = [use for use in those if _said(use.problem)] or those
    for use in those:
        problem, remedy = _sentence(use.problem), _sentence(use.remedy) if _said(use.remedy) else ""
        remedies[problem] += [remedy] * (remedy not in remedies[problem])
    problems: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for problem, those_remedies in remedies.items():
        problems[tuple(filter(None, those_remedies))].append(problem)
    for todo, says in problems.items():
        lines = [*says, *(f"→ {remedy}" for remedy in todo)]
        yield "- " + "<br>\n  ".join(lines)
    yield ""


def _sentence(text: str) -> str:
    """As Markdown. What begins with a verb follows the name of a case or a field in the message."""
    text = " ".join(text.split())
    if not text:
        return ""
    if _VERB.match(text):
        text = f"… {text}"
    elif not text.startswith(("nnU", "docs/", "qform")):
        text = text[0].upper() + text[1:]
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    parts = re.split(r"(`[^`]*`)", text)
    text = "".join(part if part.startswith("`") else _escaped(part) for part in parts)
    return text.replace(_END + _BEGIN, _END + " " + _BEGIN).replace(_BEGIN, "*").replace(_END, "*")


def _escaped(text: str) -> str:
    text = re.sub(r"([\\`*_<\[\]])", r"\\\1", text)
    return re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"`\1`", text)


@functools.cache
def _allowable() -> frozenset[str]:
    """What `--allow` accepts: the codes in the constant ALLOWABLE of the conversion."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (REPOSITORY / "dataset_conversion").rglob("*.py")]
    return frozenset(
        constant.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["ALLOWABLE"]
        for constant in ast.walk(node.value)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    )


@dataclass(frozen=True)
class _Carrier:
    """A function or class that takes a code; `names` are its parameters in the order of a call."""

    names: tuple[str, ...]
    defaults: Mapping[str, ast.expr]

    def arguments(self, call: ast.Call) -> dict[str, ast.expr]:
        positional: list[ast.expr] = []
        for argument in call.args:
            inner = argument.value if isinstance(argument, ast.Starred) else None
            positional += inner.elts if isinstance(inner, ast.Tuple) else [argument]
        keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        return {**self.defaults, **dict(zip(self.names, positional, strict=False)), **keywords}


def _parameters(node: Function) -> tuple[tuple[str, ...], dict[str, ast.expr]]:
    arguments = node.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args) if each.arg not in ("self", "cls")]
    defaults = dict(zip(reversed(names), reversed(arguments.defaults), strict=False))
    of_keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    defaults |= {each.arg: default for each, default in of_keywords if default}
    return (*names, *(each.arg for each in arguments.kwonlyargs)), defaults


class _Module:
    """A module's functions, and those of them that take a code."""

    def __init__(self, path: str, tree: ast.Module) -> None:
        self.path, self.tree = path, tree
        self.carriers: dict[str, _Carrier] = {}
        self.functions = {node.name: node for node in ast.walk(tree) if isinstance(node, Function)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self._add_class(node)
            elif isinstance(node, Function):
                self._add_function(node.name, node)

    def _add_class(self, node: ast.ClassDef) -> None:
        fields = {
            each.target.id: each.value
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        }
        if "code" in fields:
            defaults = {name: default for name, default in fields.items() if default}
            if "reason" in fields:
                defaults["severity"] = ast.Constant(_REASON)
            self.carriers[node.name] = _Carrier(tuple(fields), defaults)
        for each in node.body:
            if isinstance(each, Function) and each.name == "__init__":
                self._add_function(node.name, each)

    def _add_function(self, name: str, node: Function) -> None:
        names, defaults = _parameters(node)
        if "code" not in names:
            return
        if "severity" not in names:
            made = [call for call in ast.walk(node) if isinstance(call, ast.Call) and _name(call) == "Finding"]
            told = [keyword.value for call in made for keyword in call.keywords if keyword.arg == "severity"]
            if told and len(told) == len(made):
                defaults["severity"] = told[0]
        self.carriers[name] = _Carrier(names, defaults)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


# What is known of the texts in a function: each value is a text, a tuple of values, or a list of values.
Text = str | tuple["Text", ...] | list["Text"]
Known = dict[str, Text]


class _Reading:
    """Goes through the functions of a module as if they ran, along every path, with the texts that are known.

    Attributes:
        found: the uses of codes on the way.
        given: (function, parameter): the texts that calls within the module give it.
    """

    def __init__(self, module: _Module, carriers: Mapping[str, _Carrier], functions: Mapping[str, Function]) -> None:
        self.path, self.functions = module.path, module.functions
        self.carriers = {**carriers, **module.carriers}
        self.anywhere = {**functions, **module.functions}
        self.found: dict[Use, None] = {}
        self.given: dict[tuple[str, str], list[Text]] = defaultdict(list)
        self.constants: Known = {}
        self._inside: tuple[str, ...] = ()  # the functions that are gone through for what they return
        self._returned: list[Text] = []
        ends = self._block(module.tree.body, [{}])
        self.constants = ends[0] if ends else {}

    def run(self, constants: Known) -> list[Use]:
        """The uses; `constants` are those of all modules."""
        self.constants = {**constants, **self.constants}
        for _ in range(2):  # again, when it is known what functions are given
            self.found = {}
            for name, function in self.functions.items():
                self._block(function.body, self._start(name, function))
        return list(self.found)

    def _start(self, name: str, function: Function) -> list[Known]:
        known: list[Known] = [{}]
        for parameter in _parameters(function)[0]:
            texts = [text for text in self.given[name, parameter] if text] if parameter in (*_PROBLEM, *_REMEDY) else []
            known = [{**each, parameter: text} for each in known for text in texts] or known
        return known

    def _block(self, body: Sequence[ast.stmt], known: list[Known]) -> list[Known]:
        """What is known at the end of a block; nothing is, along paths that do not get there."""
        for statement in body:
            known = _distinct(self._statement(statement, known))[:_MOST_PATHS]
        return known

    def _statement(self, statement: ast.stmt, known: list[Known]) -> list[Known]:
        match statement:
            case ast.FunctionDef() | ast.ClassDef():
                return known
            case ast.If(test=test, body=body, orelse=orelse):
                self._calls(test, known)
                return [*self._block(body, known), *self._block(orelse, known)]
            case ast.For(target=target, iter=iterated, body=body):
                self._calls(iterated, known)
                return [*known, *self._block(body, self._each(target, iterated, known))]
            case ast.While(body=body):
                return [*known, *self._block(body, known)]
            case ast.With(items=items, body=body):
                for item in items:
                    self._calls(item.context_expr, known)
                return self._block(body, known)
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=last):
                ends = self._block([*body, *orelse], known)
                for handler in handlers:
                    ends += self._block(handler.body, known)
                return self._block(last, ends) if last else ends
        self._calls(statement, known)
        match statement:
            case ast.Return(value=ast.expr() as value):
                self._returned += [text for each in known for text in self.texts(value, each)]
                if isinstance(value, ast.Tuple) and len(value.elts) > 1 and isinstance(value.elts[0], ast.Constant):
                    # Perhaps a code and its problem.
                    self._call(ast.Call(ast.Name("Finding"), value.elts, []), known)
                return []
            case ast.Raise() | ast.Return() | ast.Continue() | ast.Break():
                return []
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                return [self._bound(each, target, text) for each in known for text in self.texts(value, each)]
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                return [
                    {**each, name: _sum(each.get(name, "" if isinstance(text, str) else []), text)}
                    for each in known
                    for text in self.texts(value, each)
                ]
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append"), args=[value])):
                return [
                    {**each, name: _sum(each.get(name, []), [text])}
                    for each in known
                    for text in self.texts(value, each)
                ]
        return known

    def _bound(self, known: Known, target: ast.expr, text: Text) -> Known:
        if isinstance(target, ast.Name):
            if isinstance(text, str) and text and not _said(text):
                return {name: each for name, each in known.items() if name != target.id}
            return {**known, target.id: text}
        if isinstance(target, ast.Tuple) and isinstance(text, tuple) and len(text) == len(target.elts):
            for each, part in zip(target.elts, text, strict=True):
                known = self._bound(known, each, part)
        return known

    def _each(self, target: ast.expr, iterated: ast.expr, known: list[Known]) -> list[Known]:
        inside: list[Known] = []
        for each in known:
            for items in self.texts(iterated, each):
                values = items if isinstance(items, list) else []
                inside += [self._bound(each, target, value) for value in values] or ([] if items == [] else [each])
        return inside

    def _calls(self, node: ast.AST, known: list[Known]) -> None:
        """Note the calls in a statement; the variables of a comprehension are known inside it."""
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            for generator in node.generators:
                self._calls(generator.iter, known)
                known = self._each(generator.target, generator.iter, known)
            self._calls(node.elt, known)
            return
        if isinstance(node, ast.Call):
            self._call(node, known)
        for child in ast.iter_child_nodes(node):
            self._calls(child, known)

    def _call(self, call: ast.Call, known: list[Known]) -> None:
        name = _name(call)
        for each in known:
            if name in self.carriers:
                given = self.carriers[name].arguments(call)
                problem = next((given[word] for word in _PROBLEM if word in given), None)
                remedy = next((given[word] for word in _REMEDY if word in given), None)
                severity = {str(text) for text in self.texts(given.get("severity"), each)} & {
                    "error",
                    "warning",
                    _REASON,
                }
                texts = (self.texts(given.get("code"), each), self.texts(problem, each), self.texts(remedy, each))
                for code, what, todo in itertools.product(*texts):
                    if isinstance(code, str) and _CODE.fullmatch(code):
                        use = Use(code, self.path, frozenset(severity or {"error"}), str(what), str(todo))
                        self.found[use] = None
            if name in self.functions:
                names, defaults = _parameters(self.functions[name])
                for parameter, value in _Carrier(names, defaults).arguments(call).items():
                    self.given[name, parameter] += self.texts(value, each)

    def texts(self, node: ast.expr | None, known: Known) -> list[Text]:
        """What an expression can come out as."""
        return _distinct(self._texts(node, known))[:_MOST_TEXTS] if node else [""]

    def _texts(self, node: ast.expr, known: Known) -> list[Text]:
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return self._joined(parts, known)
            case ast.FormattedValue(value=value):
                return self.texts(value, known)
            case ast.BinOp(left=left, op=ast.Add(), right=right) if not isinstance(right, ast.Constant) or _is_text(
                right
            ):
                return self._joined([left, right], known)
            case ast.BinOp(left=left, op=ast.Mult(), right=right) if _is_text(left):
                return self.texts(left, known)
            case ast.IfExp(body=body, orelse=orelse):
                return [*self.texts(body, known), *self.texts(orelse, known)]
            case ast.BoolOp(op=ast.Or(), values=values):
                return [text for value in values for text in self.texts(value, known) if text] or [""]
            case ast.Tuple(elts=elements):
                return list(itertools.product(*(self.texts(each, known) for each in elements)))
            case ast.List(elts=elements):
                return [[text for each in elements for text in self.texts(each, known)]]
            case ast.ListComp(elt=element, generators=[generator]):
                inside = self._each(generator.target, generator.iter, [known])
                return [_distinct([text for each in inside for text in self.texts(element, each)])]
            case ast.Name(id=name) if name in known or name in self.constants:
                return [known[name] if name in known else self.constants[name]]
            case ast.Call(func=ast.Name(id="nearest" | "_did_you_mean")):
                return [""]
            case ast.Call(func=ast.Attribute(attr="join"), args=[inner]):
                told = [text for texts in self.texts(inner, known) for text in texts if isinstance(texts, list)]
                return told or [_shown(node)]
            case ast.Call(func=ast.Attribute(value=ast.JoinedStr() as inner)):
                return self.texts(inner, known)
            case ast.Attribute(attr=name) if name in self.constants:
                return [self.constants[name]]
            case ast.Call(func=ast.Name(id=name)) if name in self.anywhere and name not in self._inside:
                return self._result(name, node)
        return [_shown(node)]

    def _joined(self, parts: Iterable[ast.expr], known: Known) -> list[Text]:
        choices = [self.texts(part, known) for part in parts]
        if any(isinstance(text, list | tuple) for texts in choices for text in texts):
            return [[text for texts in choices for each in texts if isinstance(each, list) for text in each]]
        return ["".join(map(str, each)) for each in itertools.islice(itertools.product(*choices), _MOST_TEXTS)]

    def _result(self, name: str, call: ast.Call) -> list[Text]:
        """What a function returns, where that is texts."""
        function = self.anywhere[name]
        annotation = ast.unparse(function.returns) if function.returns else ""
        if not re.match(r"str\b|list\[str\]|tuple\[str", annotation) or len(self._inside) == 3:
            return [_shown(call)]
        before = self.found, self.given, self._inside, self._returned
        self.found, self.given, self._inside, self._returned = {}, defaultdict(list), (*self._inside, name), []
        self._block(function.body, [{}])
        told = [text for text in self._returned if not isinstance(text, str) or _said(text)]
        self.found, self.given, self._inside, self._returned = before
        return told or [_shown(call)]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str)


def _said(text: str) -> bool:
    """Whether anything in it is known beforehand; what is not is better shown by its name."""
    return bool(re.search(r"\w", re.sub(f"{_BEGIN}.*?{_END}", "", text)))


def _sum(before: Text, after: Text) -> Text:
    if isinstance(before, list):
        if len(before) > _MOST_TEXTS:
            return before
        return [*before, *(after if isinstance(after, list) else [after])]
    return f"{before}{after}"


T = TypeVar("T")


def _distinct(values: Iterable[T]) -> list[T]:
    """Each once, in order; they may be unhashable."""
    return list({repr(value): value for value in values}.values())


def _shown(node: ast.expr) -> str:
    """The name of a value that is only known when it happens."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return _placeholder(_WORDS.get(name, name.strip("_").replace("_", " ").lower()))
        case ast.Call(func=ast.Attribute(attr="join"), args=[inner]):
            return _shown(inner)
        case ast.Call(func=ast.Name(id="len")):
            return _placeholder("number")
        case ast.Call(args=[inner, *_]):
            return _shown(inner)
        case ast.Call(func=ast.Attribute(value=inner)) | ast.Subscript(value=inner):
            return _shown(inner)
        case ast.GeneratorExp(elt=inner) | ast.ListComp(elt=inner) | ast.SetComp(elt=inner):
            return _shown(inner)
        case ast.BoolOp(values=[inner, *_]):
            return _shown(inner)
        case ast.BinOp(left=ast.Constant(), right=inner) | ast.BinOp(left=inner):
            return _shown(inner)
    return _placeholder("…")


def _placeholder(name: str) -> str:
    return f"{_BEGIN}{name}{_END}"


if __name__ == "__main__":
    PAGE.write_text(as_page(uses()), encoding="utf-8")
    print(PAGE.relative_to(REPOSITORY))
