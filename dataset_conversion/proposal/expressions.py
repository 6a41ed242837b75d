"""From files and where they say whose they are to the fewest expressions that fit them and leave no case two files.

Expressions take the names as they are, with digits left open; of several kinds of files for one image of a case the
expression keeps to the kind that more cases have.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dataset_conversion.layouts.named_files import IMAGE_NAMES
from dataset_conversion.layouts.patterns import MASK
from dataset_conversion.proposal.pieces import (
    FORMS,
    LEGAL,
    NUMBER,
    WHOLE,
    Form,
    Piece,
    escaped,
    expression,
    key,
    one_expression,
    open_digits,
    shape,
)
from dataset_conversion.proposal.places import SEPARATORS, Places, Slot, find_places
from dataset_conversion.proposal.roles import BARE_MASK, OTHER, Named, fold

_DOUBTFUL = re.compile(
    r"eq|reformat\w*|mpr|crop|tilt|copie|copy|old|bak|bis|brain|bet|ss|stripped|norm\w*|reg|coreg|r|w"
)
_MOST_KINDS = 20
_MOST_HEADS = 3
_WAYS = ("as it is", "subject", "any")
_MOST_OVERLAPS = 20


Case = tuple[str, str, str]


@dataclass(frozen=True)
class Kind:
    """Files that one expression fits.

    Attributes:
        why_not: why it is not taken, where it is not.
    """

    role: str
    expression: str
    files: Mapping[str, Case]
    why_not: str = ""


@dataclass(frozen=True)
class Proposal:
    """What a layout file can say of a folder.

    Attributes:
        images: name → kinds, in channel order.
        others: kinds that fit an image or the mask too, and are not taken.
        ignore: expressions of single files that give way to another file of their case.
        subject_name: "" where the subject is told by its group alone.
        lawful: whether all names can be those of cases.
    """

    images: dict[str, list[Kind]]
    masks: list[Kind]
    others: list[Kind] = field(default_factory=list)
    ignore: list[str] = field(default_factory=list)
    subject_name: str = ""
    lawful: bool = True

    @property
    def subjects(self) -> set[str]:
        """As the expressions capture them."""
        return {"-".join(filter(None, case[:2])) for case in self.cases}

    @property
    def cases(self) -> set[Case]:
        kinds = [*self.masks, *(kind for kinds in self.images.values() for kind in kinds)]
        return {case for kind in kinds for case in kind.files.values()}


def propose(
    files: Sequence[Named],
    is_4d: Callable[[str], bool] = lambda text: False,
    fits_sheet: Callable[[Collection[str]], bool] = lambda subjects: False,
) -> Proposal | None:
    """The expressions for the files of a folder; None where nothing says what is an image, or whose it is.

    Args:
        files: all NIfTI files.
        is_4d: whether a file has several volumes; asked of two files of a kind.
        fits_sheet: whether a sheet lists subjects by these names.
    """
    known = [file for file in files if file.role not in ("", OTHER)]
    places = find_places(known)
    if not any(file.role not in (MASK, BARE_MASK) for file in places):
        return None
    writer = _Writer(places, fits_sheet)
    kinds = [kind for role in _in_order({file.role for file in places}) for kind in writer.kinds(role, files)]
    images: dict[str, list[Kind]] = {}
    masks: list[Kind] = []
    others: list[Kind] = []
    ignore: list[str] = []
    by_role: dict[str, list[Kind]] = defaultdict(list)
    for kind in kinds:
        by_role[MASK if kind.role == BARE_MASK else kind.role].append(kind)
    for role, those in by_role.items():
        taken, left, given_way = _chosen(those, is_4d)
        others += left
        ignore += given_way
        if role == MASK:
            masks = taken
        elif taken:
            images[role] = taken
    if not images:
        return None
    return Proposal(
        images,
        masks,
        others,
        ignore,
        subject_name="{site}-{subject}" if writer.with_site else "",
        lawful=writer.lawful,
    )


def _in_order(roles: Iterable[str]) -> list[str]:
    order = ["T1w", "FLAIR", *IMAGE_NAMES]
    return sorted(roles, key=lambda role: (order.index(role) if role in order else len(order), role))


class _Writer:
    """Writes the expression of each file; what it captures of a subject is the same in every family.

    Attributes:
        with_site: whether subjects are told by site and subject.
        lawful: whether subjects and sessions can be names of cases.
    """

    def __init__(self, places: Mapping[Named, Places], fits_sheet: Callable[[Collection[str]], bool]) -> None:
        self.places = places
        self.with_site = all(each.with_site for each in places.values())
        self.groups: dict[Places, list[Named]] = defaultdict(list)
        for file, each in places.items():
            self.groups[each].append(file)
        values: dict[str, set[str]] = {name: set() for name in ("subject", "session", "site", "split")}
        for file, each in places.items():
            for name in values:
                if slot := getattr(each, name):
                    values[name].add(self._text(slot, file))
        self.forms: dict[str, Form] = dict.fromkeys(values, WHOLE)
        self.lawful = True
        by_number = any(each.subject.part == "number" for each in places.values())
        self.forms["subject"] = NUMBER if by_number else self._form(values["subject"], fits_sheet)
        self.forms["session"] = self._form(values["session"])
        if self.with_site:
            self.forms["site"] = self._form(values["site"])
        self.constant = {
            (each, i): len({file.folders[i] for file in files}) == 1
            for each, files in self.groups.items()
            for i in range(min(len(file.folders) for file in files))
        }
        self.shapes: dict[tuple[Places, str], str] = {}

    @staticmethod
    def _text(slot: Slot, file: Named) -> str:
        return (slot._replace(part="") if slot.part == "number" else slot).of(file)

    def _form(self, values: set[str], fits_sheet: Callable[[Collection[str]], bool] | None = None) -> Form:
        """The first that tells all of them apart by names of cases; one that a sheet uses goes before."""
        possible = []
        for form in (WHOLE, *FORMS):
            found = [re.fullmatch(form.name, value, re.DOTALL) for value in values - {""}]
            captured = {match[1] for match in found if match}
            if len(captured) == len(found) and all(map(LEGAL.fullmatch, captured)):
                possible.append((form, captured))
        self.lawful &= bool(possible)
        by_sheet = (form for form, captured in possible if fits_sheet and fits_sheet(captured))
        return next(by_sheet, possible[0][0] if possible else WHOLE)

    def captured(self, name: str, slot: Slot | None, file: Named) -> str:
        if slot is None:
            return ""
        text = self._text(slot, file)
        match = re.fullmatch(self.forms[name].name, text, re.DOTALL)
        return match[1] if match else text

    def case(self, file: Named) -> Case:
        each = self.places[file]
        site = self.captured("site", each.site, file) if self.with_site else ""
        return site, self.captured("subject", each.subject, file), self.captured("session", each.session, file)

    def _group(self, name: str, file: Named, separator: str = "") -> list[Piece]:
        each = self.places[file]
        slot: Slot = getattr(each, name)
        form = self.forms[name]
        if (each, name) not in self.shapes:
            texts = {self.captured(name, slot, other) for other in self.groups[each]}
            self.shapes[each, name] = shape(texts - {""}, separator, form.captured)
        pieces = [Piece(f"(?P<{name}>{self.shapes[each, name]})", is_literal=False)]
        return [*expression(form.before), *pieces, *expression(form.after)]

    def kinds(self, role: str, all_files: Sequence[Named]) -> list[Kind]:
        """The files of a role by the expressions for them."""
        files = [file for file in self.places if file.role == role]
        strangers = [file.text for file in all_files if file.role != role]
        heads = [way for way in _WAYS if len({key(self._head(file, way)) for file in files}) <= _MOST_HEADS]
        tails = {key(self._tail(file, "as it is")) for file in files}
        tail = "any" if _MOST_HEADS < len(tails) > len(files) / 2 else "as it is"  # names of people, most likely
        for ways in ((heads[0] if heads else "any", tail), ("as it is", "as it is")):
            groups: dict[tuple[object, ...], list[tuple[Named, list[Piece]]]] = defaultdict(list)
            for file in files:
                pieces = self._pieces(file, *ways)
                groups[key(pieces)].append((file, pieces))
            kinds = [Kind(role, *each) for those in groups.values() for each in self._without_twins(those)]
            if "any" not in ways or (
                not any(re.fullmatch(kind.expression, text) for kind in kinds for text in strangers)
                and all(len(set(kind.files.values())) == len(kind.files) for kind in kinds)
            ):
                break
        return kinds

    def _pieces(self, file: Named, head: str, tail: str) -> list[Piece]:
        each = self.places[file]
        pieces: list[Piece] = []
        for i, folder in enumerate(file.folders):
            if parts := self._said_by(i, folder, file):
                pieces += parts
            elif i in file.role_folders:
                pieces += open_digits(folder)
            elif self.constant[each, i]:
                pieces.append(Piece(folder))
            else:
                pieces += expression("[^/]+")
            pieces.append(Piece("/"))
        return [*pieces, *self._head(file, head), Piece(file.core), *self._tail(file, tail)]

    def _tail(self, file: Named, way: str) -> list[Piece]:
        text = file.tail.strip(SEPARATORS)
        start = file.tail[: len(file.tail) - len(file.tail.lstrip(SEPARATORS))]
        if said := self._said_by("tail", text, file):
            return [Piece(start), *said, Piece(file.tail[len(start) + len(text) :])]
        if way == "any" and text:
            return [Piece(start), *expression("[^/]*")]
        return open_digits(file.tail)

    def _head(self, file: Named, way: str) -> list[Piece]:
        text = file.head.strip(SEPARATORS)
        start = file.head[: len(file.head) - len(file.head.lstrip(SEPARATORS))]
        end = file.head[len(start) + len(text) :]
        if said := self._said_by("head", text, file, end or file.core[:1] or "."):
            return [Piece(start), *said, Piece(end)]
        subject = self.captured("subject", self.places[file].subject, file)
        if way == "subject" and isinstance(self.places[file].subject.place, int) and subject in text:
            before, _, after = text.partition(subject)
            return [
                *(Piece(start), *open_digits(before)),
                *(Piece("(?P=subject)", is_literal=False), *open_digits(after), Piece(end)),
            ]
        if way == "any" and text:
            return [*expression("[^/]*"), Piece(end)]
        return open_digits(file.head)

    def _said_by(self, place: int | str, text: str, file: Named, end: str = "") -> list[Piece]:
        """The groups that a folder or a part of the name holds, and what is beside them; empty where it holds none."""
        each = self.places[file]
        slots = {name: slot for name in self.forms if (slot := getattr(each, name)) and slot.place == place}
        if not slots or not text:
            return []
        by_part = {slot.part: name for name, slot in slots.items()}
        for part in ("", "number"):
            if part in by_part:
                return self._group(by_part[part], file, end)
        if "first" in by_part:
            first = Slot(place, "first").of(file)
            return [*self._group(by_part["first"], file, text[len(first) :]), *open_digits(text[len(first) :])]
        rest, last = Slot(place, "rest").of(file), Slot(place, "end").of(file)
        between = text[len(rest) : len(text) - len(last)]
        start = self._group(by_part["rest"], file, between) if "rest" in by_part else expression("[^/]*?")
        behind = (
            self._group(by_part["end"], file, end) if "end" in by_part else expression("[^/]+?" if end else "[^/]+")
        )
        return [*start, Piece(between), *behind]

    def _without_twins(self, group: Sequence[tuple[Named, list[Piece]]]) -> Iterator[tuple[str, dict[str, Case]]]:
        """Expression and files; the files parted by digits or endings where that leaves no case two of them."""
        files = [file for file, _ in group]
        cases = {file.text: self.case(file) for file in files}
        if len(set(cases.values())) < len(cases):
            for part_of in (lambda file: file.ending.lower(), lambda file: (file.core + file.tail).casefold()):
                parts = defaultdict(list)
                for file, pieces in group:
                    parts[part_of(file)].append((file, pieces))
                if 1 < len(parts) <= 3 and all(
                    len({cases[file.text] for file, _ in part}) == len(part) for part in parts.values()
                ):
                    for part in parts.values():
                        closed = [(file, self._closed(pieces, file)) for file, pieces in part]
                        yield one_expression(closed), {file.text: cases[file.text] for file, _ in part}
                    return
        yield one_expression(group), cases

    def _closed(self, pieces: Sequence[Piece], file: Named) -> list[Piece]:
        """With the digits behind the role as they are, unless a group is there."""
        tail = self._tail(file, "as it is")
        is_open = tail == open_digits(file.tail) == list(pieces[len(pieces) - len(tail) :])
        return [*pieces[: len(pieces) - len(tail)], Piece(file.tail)] if is_open else list(pieces)


def _chosen(kinds: Sequence[Kind], is_4d: Callable[[str], bool]) -> tuple[list[Kind], list[Kind], list[str]]:
    """Kinds to take, kinds to leave with the reason, and expressions of the files that give way to others."""
    taken: list[Kind] = []
    left: list[Kind] = []
    ignore: list[str] = []
    covered: set[Case] = set()
    said: set[Case] = set()  # cases of which a mask says lesion
    for kind in sorted(kinds, key=_preference):
        cases = set(kind.files.values())
        both = cases & covered
        why_not = ""
        if all(map(is_4d, list(kind.files)[:2])):
            why_not = "they have several volumes"
        elif len(taken) == _MOST_KINDS:
            why_not = f"there are over {_MOST_KINDS} kinds of names for it"
        elif kind.role == BARE_MASK and both & said:
            why_not = "some lie beside a mask that says lesion"
        elif both and (len(both) >= len(cases) - len(both) or len(both) > _MOST_OVERLAPS):
            why_not = "they would be a second one"
        if why_not:
            left.append(Kind(kind.role, kind.expression, kind.files, why_not))
            continue
        if kind.role not in (MASK, BARE_MASK):  # of two masks neither is better unseen
            ignore += [escaped(text) for text, case in kind.files.items() if case in both]
        covered |= cases
        said |= cases if kind.role == MASK else set()
        taken.append(kind)
    return taken, left, ignore


def _preference(kind: Kind) -> tuple[object, ...]:
    words = re.findall(r"[a-z]+", fold(kind.expression.rpartition("/")[2]))
    doubtful = sum(bool(_DOUBTFUL.fullmatch(word)) for word in words)
    cases = len(set(kind.files.values()))
    return kind.role == BARE_MASK, -cases, doubtful, len(kind.expression), kind.expression
