"""What an interrupted conversion has done already: one small file per finished case, so that the next run goes on.

A record counts only for the same options and versions and for sources that have not changed since. It names no file of
the source, because it lies in the raw folder, where nothing may lead from a pseudonym to a person.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dataset_conversion.checks.case import CheckedCase, Content, Transform
from dataset_conversion.checks.file import CheckedFile, Lesion, Statistics
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.files import write_whole
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.volumes.names import file_of

FOLDER = ".records"


@dataclass(frozen=True)
class Record:
    """A finished case: the outcome of its checks, and what the quality-control page shows of it.

    Attributes:
        picture: the montage, a compressed picture.
        occupancy: where the lesion is, on a coarse grid.
    """

    checked: CheckedCase
    picture: bytes | None = None
    occupancy: bytes | None = None


class Records:
    """The records of one conversion.

    Args:
        folder: of the unfinished dataset.
        source: the folder that the paths of the cases are relative to.
        options: all that the outcome of a case depends on besides its files.
        secret: of the pseudonyms. Nobody without it can find a case's row from its digest by trying, and the hashes of
            the source are not kept, as in the report.
    """

    def __init__(self, folder: Path, source: Path, options: Mapping[str, Any], secret: bytes = b"") -> None:
        self._folder = folder / FOLDER
        self._source = source
        self._options = dict(options)
        self._secret = secret

    def load(self, case: Case) -> Record | None:
        """The record of a case; None where it must be done."""
        try:
            content = json.loads(self._path(case).read_text())
            if content["key"] != self._key(case) or content["sizes"] != self._sizes(content["sizes"]):
                return None
            return _record(case, content)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, record: Record, written: Iterable[str]) -> None:
        """Keep the record of a case whose files are all written.

        Args:
            record: of the case.
            written: paths inside the dataset folder. A machine that loses power may cut them off.
        """
        case = record.checked.case
        numbers = {path: str(number) for number, path in enumerate(_paths(case))}
        checked = asdict(_with_paths(record.checked, numbers, hashes=not self._secret))
        checked.pop("case")
        content = {
            "key": self._key(case),
            "sizes": self._sizes(written),
            **checked,
            "picture": _text(record.picture),
            "occupancy": _text(record.occupancy),
        }
        write_whole(self._path(case), json.dumps(content))

    def _sizes(self, paths: Iterable[str]) -> dict[str, int]:
        return {path: (self._folder.parent / path).stat().st_size for path in paths}

    def _path(self, case: Case) -> Path:
        return self._folder / f"{case.case}.json"

    def _key(self, case: Case) -> str:
        """Of the options, the row of the case table, and size and time of its files."""
        files = []
        for path in _paths(case):
            status = os.stat(file_of(self._source / path))
            files.append((status.st_size, status.st_mtime_ns, status.st_ino))
        content = json.dumps([self._options, asdict(case), files], sort_keys=True)
        return hmac.new(self._secret, content.encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def _paths(case: Case) -> list[str]:
    return [*case.images.values(), *case.masks]


def _with_paths(checked: CheckedCase, path_of: Mapping[str, str], *, hashes: bool = True) -> CheckedCase:
    """The same with other paths of the source, with or without its hashes."""

    def renamed(file: CheckedFile) -> CheckedFile:
        return replace(file, sources=tuple((path_of[path], sha256 if hashes else "") for path, sha256 in file.sources))

    findings = tuple(
        replace(each, files=tuple((role, path_of[path]) for role, path in each.files)) for each in checked.findings
    )
    content = checked.content
    if content:
        mask = renamed(content.mask) if content.mask else None
        content = replace(content, images=tuple(map(renamed, content.images)), mask=mask)
    return replace(checked, findings=findings, content=content)


def _record(case: Case, content: Mapping[str, Any]) -> Record:
    findings = tuple(
        Finding(**{**each, "files": tuple((role, path) for role, path in each["files"])})
        for each in content["findings"]
    )
    body = content["content"]
    checked = CheckedCase(case, findings, _content(body) if body else None)
    return Record(
        _with_paths(checked, {str(number): path for number, path in enumerate(_paths(case))}),
        _bytes(content["picture"]),
        _bytes(content["occupancy"]),
    )


def _content(body: Mapping[str, Any]) -> Content:
    return Content(
        images=tuple(_file(each) for each in body["images"]),
        mask=_file(body["mask"]) if body["mask"] else None,
        lesion=Lesion(**body["lesion"]) if body["lesion"] else None,
        shape=tuple(body["shape"]),
        spacing=tuple(body["spacing"]),
        affine=tuple(tuple(row) for row in body["affine"]),
        statistics=tuple((role, Statistics(**each)) for role, each in body["statistics"]),
        transforms=tuple(Transform(**each) for each in body["transforms"]),
    )


def _file(body: Mapping[str, Any]) -> CheckedFile:
    sources = tuple((path, sha256) for path, sha256 in body["sources"])
    return CheckedFile(body["role"], sources, tuple(body["changes"]))


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
