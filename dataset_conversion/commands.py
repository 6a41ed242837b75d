"""The commands `convert` and `scan`: what they take, and the functions that a script can call too."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dataset_conversion.options import (
    Checks,
    ConvertOptions,
    FileNames,
    Folds,
    Policy,
    Target,
    Work,
)
from nnunet_transformers.common import interrupts
from nnunet_transformers.common.command_line import Argument, Command, Group, Option

if TYPE_CHECKING:
    from dataset_conversion.job import Conversion
    from dataset_conversion.layouts import Layout


def _example() -> str:
    from dataset_conversion.layouts.yaml_file import example

    return example()


def _known_issues() -> str:
    from dataset_conversion.layouts import atlas

    rows = [(issue.release, issue.subject, issue.problem, issue.source) for issue in atlas.LAYOUT.known_issues]
    head = "Reported by others, not checked by us, and never mended silently:"
    return "\n".join([head, *(f"{release:6} {who:14} {what} ({source})" for release, who, what, source in rows)])


@dataclass(frozen=True)
class Source(ABC):
    """A data folder whose layout has yet to be said."""

    source: Annotated[Path, Argument("SRC", "the data folder; it is only read")]

    @abstractmethod
    def layout(self, table: Path | None = None) -> Layout:
        """How the data lie in the folder; `table` lists the cases instead of the file names."""


@dataclass(frozen=True)
class Bids(Source):
    names: Annotated[FileNames, Group("names of files")]

    def layout(self, table: Path | None = None) -> Layout:
        from dataset_conversion.layouts import bids

        return _listed(bids.layout(self._entities(table), self.names.lesion_names), table)

    def _entities(self, table: Path | None) -> dict[str, str]:
        from dataset_conversion.errors import stop

        if table and (self.names.entity or self.names.lesion_names):
            problem = "--entity and --lesion-names choose among files, but --table names them"
            raise stop("BAD_OPTION", problem, "Leave out the one or the other; scan takes both.")
        found = {}
        for pair in self.names.entity:
            key, dash, value = pair.partition("-")
            if not (key and dash):
                problem = f"--entity {pair}: not of the form key-value"
                raise stop("BAD_OPTION", problem, "For example: --entity space-orig")
            found[key] = value
        return found


@dataclass(frozen=True)
class Atlas(Bids):
    known_issues: Annotated[bool, Option("list reported errors of each release, and end", prints=_known_issues)] = False

    def layout(self, table: Path | None = None) -> Layout:
        from dataset_conversion.layouts import atlas

        return _listed(atlas.layout(self._entities(table), self.names.lesion_names), table)


@dataclass(frozen=True)
class Decathlon(Source):
    def layout(self, table: Path | None = None) -> Layout:
        from dataset_conversion.layouts import decathlon

        return _listed(decathlon.LAYOUT, table)


@dataclass(frozen=True)
class Folder(Source):
    layout_file: Annotated[Path | None, Option("the layout file", name="layout", metavar="YAML")] = None
    example: Annotated[bool, Option("print a commented layout file to start from, and end", prints=_example)] = False

    def layout(self, table: Path | None = None) -> Layout:
        from dataset_conversion.errors import stop
        from dataset_conversion.layouts import table as case_table
        from dataset_conversion.layouts.yaml_file import read_layout

        if self.layout_file:
            return _listed(read_layout(self.layout_file), table)
        if table:
            return case_table.layout(table)
        remedy = (
            "Give --layout YAML (`nnunet-transformers scan folder SRC --write YAML` proposes one, `convert folder "
            "--example` prints one to start from) or --table TSV. Nothing is assumed about this data."
        )
        raise stop("NO_LAYOUT", "how the data lie in the folder must be said", remedy)


@dataclass(frozen=True)
class ScanFolder(Folder):
    write: Annotated[
        Path | None,
        Option("propose a layout file from the names in SRC, and write it here; the next commands are printed", "YAML"),
    ] = None


def _listed(layout: Layout, table: Path | None) -> Layout:
    from dataset_conversion.layouts import table as case_table

    return replace(layout, find=case_table.layout(table).find) if table else layout


@dataclass(frozen=True, kw_only=True)
class Convert:
    data: Source
    table: Annotated[
        Path | None, Option("convert the cases of this case table (printed by scan, edited)", metavar="TSV")
    ] = None
    target: Annotated[Target, Group("where it goes")]
    options: ConvertOptions


@dataclass(frozen=True, kw_only=True)
class ConvertAtlas(Convert):
    data: Atlas


@dataclass(frozen=True, kw_only=True)
class ConvertBids(Convert):
    data: Bids


@dataclass(frozen=True, kw_only=True)
class ConvertDecathlon(Convert):
    data: Decathlon


@dataclass(frozen=True, kw_only=True)
class ConvertFolder(Convert):
    data: Folder


@dataclass(frozen=True)
class MergeTarget(Target):
    name: Annotated[str, Option("the dataset is called Dataset<ID>_<NAME> (default: A_B)")] = ""


@dataclass(frozen=True, kw_only=True)
class Merge:
    first: Annotated[str, Argument("A", "folder, number or name of a converted dataset")]
    second: Annotated[str, Argument("B", "the other one")]
    overlap: Annotated[
        Policy | None,
        Option("people in both: keep A's cases, or keep all and never separate them in the folds (an error otherwise)"),
    ] = None
    target: Annotated[MergeTarget, Group("where it goes")]
    checks: Annotated[Checks, Group("checks")]
    folds: Annotated[Folds, Group("folds of the cross-validation")]
    work: Annotated[Work, Group("the run")]


@interrupts.at_once()
def _convert(arguments: Convert) -> int:
    from dataset_conversion.alignment.itk import silence_warnings
    from dataset_conversion.convert import convert
    from dataset_conversion.memory import keep_freed_memory

    keep_freed_memory()
    silence_warnings()
    layout = arguments.data.layout(arguments.table)
    return _show(convert(arguments.data.source, layout, arguments.target, arguments.options))


@interrupts.at_once()
def _merge(arguments: Merge) -> int:
    from dataset_conversion.alignment.itk import silence_warnings
    from dataset_conversion.memory import keep_freed_memory
    from dataset_conversion.merge import merge

    keep_freed_memory()
    silence_warnings()
    options = ConvertOptions(checks=arguments.checks, folds=arguments.folds, work=arguments.work)
    return _show(merge(arguments.first, arguments.second, arguments.target, options, overlap=arguments.overlap))


def _show(result: Conversion) -> int:
    print(result)
    return 0


@interrupts.at_once()
def _scan(arguments: Source) -> int:
    from dataset_conversion.convert import scan
    from dataset_conversion.tables.case_table import to_tsv

    found = scan(arguments.source, arguments.layout())
    for finding in found.findings:
        print(finding, file=sys.stderr)
    # The same bytes as in a file: names that are not UTF-8 stay as they are on disk.
    sys.stdout.flush()
    sys.stdout.buffer.write(to_tsv(found.cases).encode("utf-8", "surrogateescape"))
    return 0


def _scan_folder(arguments: ScanFolder) -> int:
    from dataset_conversion.errors import stop
    from dataset_conversion.proposal.writing import write_layout

    if arguments.write is None:
        return _scan(arguments)
    if arguments.layout_file:
        problem = "--write proposes a layout file, --layout gives one"
        raise stop("BAD_OPTION", problem, "Leave one of them out.")
    print(write_layout(arguments.source, arguments.write))
    return 0


_ATLAS = "ATLAS: R1.x, R2.0 (as distributed or the ISLES 2022 challenge's copy), R2.1 and R3.0"
_BIDS = "BIDS, or nearly so: images by subject, lesion masks anywhere, for example under derivatives/"
_DECATHLON = "Medical Segmentation Decathlon: one task with its dataset.json, all images of a case in one file"
_FOLDER = "any other folder, described by a layout file (--layout) or a case table (--table)"
_SCAN_FOLDER = "any other folder, by a layout file (--layout), which this proposes too (--write)"
_SAME = "the same as folder"

COMMANDS = (
    Command(
        "convert",
        "turn a data folder into an nnU-Net dataset",
        "%(prog)s atlas --help",
        metavar="LAYOUT",
        commands=(
            Command(
                *("atlas", _ATLAS, "%(prog)s ATLAS_2 --dataset-id 201", _convert, ConvertAtlas),
                defaults={"target.name": "ATLAS"},
            ),
            Command(
                *("bids", _BIDS, "%(prog)s stroke_bids --dataset-id 202 --channels T1w FLAIR", _convert, ConvertBids),
                defaults={"target.name": "BIDS"},
            ),
            Command(
                *(
                    "decathlon",
                    _DECATHLON,
                    "%(prog)s Task01_BrainTumour --dataset-id 204 --mask-labels 1 2 3",
                    _convert,
                ),
                arguments=ConvertDecathlon,
                defaults={"target.name": "Decathlon"},
            ),
            Command(
                *("folder", _FOLDER, "%(prog)s export --layout export.yaml --dataset-id 203", _convert, ConvertFolder),
                defaults={"target.name": "Folder"},
            ),
            Command(
                *(
                    "kerpape",
                    f"{_SAME}; the dataset is called Kerpape",
                    "%(prog)s export --layout kerpape.yaml --dataset-id 203",
                    _convert,
                ),
                arguments=ConvertFolder,
                defaults={"target.name": "Kerpape"},
            ),
            Command(
                "merge",
                "two converted datasets made one; people who are in both are found first",
                "%(prog)s 201 202 --dataset-id 210 --overlap first",
                _merge,
                Merge,
            ),
        ),
    ),
    Command(
        "scan",
        "print the case table of a data folder (TSV), without opening an image; edit it and give it to convert --table",
        "%(prog)s atlas ATLAS_2 > cases.tsv",
        metavar="LAYOUT",
        commands=(
            Command("atlas", _ATLAS, "%(prog)s ATLAS_2 > cases.tsv", _scan, Atlas),
            Command("bids", _BIDS, "%(prog)s stroke_bids > cases.tsv", _scan, Bids),
            Command("decathlon", _DECATHLON, "%(prog)s Task01_BrainTumour > cases.tsv", _scan, Decathlon),
            Command("folder", _SCAN_FOLDER, "%(prog)s export --write export.yaml", _scan_folder, ScanFolder),
            Command("kerpape", _SAME, "%(prog)s export --write kerpape.yaml", _scan_folder, ScanFolder),
        ),
    ),
)
