"""What an interrupted conversion has done already: one small file per finished case, so that the next run goes on.

A record counts only for the same options and versions and for sources that have not changed since.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dataset_conversion.case_table import Case
from dataset_conversion.checks import CheckedCase, Content, Transform
from dataset_conversion.errors import Finding
from dataset_conversion.readings import CheckedFile, Lesion, Statistics

FOLDER = ".records"


@dataclass(frozen=True)
class Record:
    """A finished case: the outcome of its checks, and what the quality-control page shows of it."""

    checked: CheckedCase
    picture: bytes | None = None
    """The montage, a compressed picture."""
    occupancy: bytes | None = None
    """Where the lesion is, on a coarse grid."""


class Records:
    """The records of one conversion.

    Args:
        folder: of the unfinished dataset.
        source: the folder that the paths of the cases are relative to.
        options: all that the outcome of a case depends on besides its files.
    """

    def __init__(self, folder: Path, source: Path, options: Mapping[str, Any]) -> None:
        self._folder = folder / FOLDER
        self._source = source
        self._options = dict(options)

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
        self._folder.mkdir(exist_ok=True)
        checked = asdict(record.checked)
        checked.pop("case")
        content = {
            "key": self._key(record.checked.case),
            "sizes": self._sizes(written),
            **checked,
            "picture": _text(record.picture),
            "occupancy": _text(record.occupancy),
        }
        path = self._path(record.checked.case)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content))
        partial.replace(path)

    def _sizes(self, paths: Iterable[str]) -> dict[str, int]:
        return {path: (self._folder.parent / path).stat().st_size for path in paths}

    def _path(self, case: Case) -> Path:
        return self._folder / f"{case.case}.json"

    def _key(self, case: Case) -> str:
        """Of the options, the row of the case table, and size and time of its files."""
        paths = [*case.images.values(), *case.masks]
        files = []
        for path in paths:
            status = os.stat(self._source / path)
            files.append((status.st_size, status.st_mtime_ns, status.st_ino))
        content = json.dumps([self._options, asdict(case), files], sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


def _record(case: Case, content: Mapping[str, Any]) -> Record:
    findings = tuple(
        Finding(**{**each, "files": tuple((role, path) for role, path in each["files"])})
        for each in content["findings"]
    )
    body = content["content"]
    return Record(
        CheckedCase(case, findings, _content(body) if body else None),
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
