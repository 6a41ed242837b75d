"""The commands `convert` and `scan` of `nnunet-transformers`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataset_conversion.convert import Conversion
    from dataset_conversion.layouts import Layout

AddCommand = Callable[..., argparse.ArgumentParser]

_LAYOUTS = {
    "atlas": (
        "ATLAS: R1.x, R2.0 (as distributed or the ISLES 2022 challenge's copy), R2.1 and R3.0",
        "nnunet-transformers convert atlas ATLAS_2 --dataset-id 201",
    ),
    "bids": (
        "BIDS, or nearly so: images by subject, lesion masks anywhere, for example under derivatives/",
        "nnunet-transformers convert bids stroke_bids --dataset-id 202 --channels T1w FLAIR",
    ),
    "kerpape": (
        "any other folder, described by a layout file (--layout) or a case table (--table)",
        "nnunet-transformers convert kerpape export --layout kerpape.yaml --dataset-id 203",
    ),
}
_NAMES = {"atlas": "ATLAS", "bids": "BIDS", "kerpape": "Kerpape"}


class _Print(argparse.Action):
    """Prints something and ends, as --version does."""

    def __init__(self, option_strings: Sequence[str], dest: str, const: Callable[[], str], **options: Any) -> None:
        super().__init__(option_strings, dest, **{**options, "nargs": 0, "default": argparse.SUPPRESS})
        self._text = const

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(self._text().rstrip())
        parser.exit()


def add_commands(commands: argparse._SubParsersAction, add: AddCommand) -> None:
    """Add both commands.

    Args:
        commands: where they are added.
        add: makes the parser of a command from that place or another, its name, summary and example.
    """
    convert = add(
        *(commands, "convert", "turn a data folder into an nnU-Net dataset"),
        "nnunet-transformers convert atlas --help",
    ).add_subparsers(dest="layout", required=True, metavar="LAYOUT")
    scan = add(
        commands,
        "scan",
        "print the case table of a data folder (TSV), without opening an image; edit it and give it to convert --table",
        "nnunet-transformers scan atlas ATLAS_2 > cases.tsv",
    ).add_subparsers(dest="layout", required=True, metavar="LAYOUT")
    for name, (summary, example) in _LAYOUTS.items():
        parser = add(convert, name, summary, example)
        _add_source(parser, name)
        parser.add_argument(
            "--table", type=Path, metavar="TSV", help="convert the cases of this case table (printed by scan, edited)"
        )
        _add_target(parser, _NAMES[name])
        _add_cases(parser)
        _add_common(parser)
        parser.set_defaults(run=_convert)
        example = example.replace("convert", "scan").partition(" --dataset-id")[0] + " > cases.tsv"
        parser = add(scan, name, summary, example)
        _add_source(parser, name)
        parser.set_defaults(run=_scan, table=None)
    parser = add(
        convert,
        "merge",
        "two converted datasets made one; people who are in both are found first",
        "nnunet-transformers convert merge 201 202 --dataset-id 210 --overlap first",
    )
    parser.add_argument("first", metavar="A", help="folder, number or name of a converted dataset")
    parser.add_argument("second", metavar="B", help="the other one")
    parser.add_argument(
        "--overlap",
        choices=["first", "group"],
        help="people in both: keep A's cases, or keep all and never separate them in the folds (an error otherwise)",
    )
    _add_target(parser, "")
    _add_common(parser)
    parser.set_defaults(run=_merge)


def _add_source(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("source", type=Path, metavar="SRC", help="the data folder; it is only read")
    if name == "kerpape":
        parser.add_argument("--layout", dest="layout_file", type=Path, metavar="YAML", help="the layout file")
        parser.add_argument(
            "--example", action=_Print, const=_example, help="print a commented layout file to start from, and end"
        )
        return
    parser.add_argument(
        "--entity",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY-VALUE",
        help="where several files could be the image or the mask: take those with this in their names (space-orig)",
    )
    if name == "atlas":
        parser.add_argument(
            "--known-issues", action=_Print, const=_known_issues, help="list reported errors of each release, and end"
        )


def _add_target(parser: argparse.ArgumentParser, name: str) -> None:
    group = parser.add_argument_group("where it goes")
    group.add_argument("--dataset-id", type=int, required=True, metavar="ID", help="1 to 999")
    group.add_argument(
        "--name", default=name, help="the dataset is called Dataset<ID>_<NAME>" + ("" if name else " (default: A_B)")
    )
    group.add_argument("--raw-folder", type=Path, metavar="DIR", help="instead of the folder in nnUNet_raw")
    group.add_argument(
        "--link",
        choices=["auto", "hard", "symlink", "reference", "copy"],
        default="auto",
        help="files that need no change: hard link, else symbolic link, else copy (auto), one of these, or only named "
        "in dataset.json (reference)",
    )
    group.add_argument("--dry-run", action="store_true", help="check everything, write nothing")


def _add_cases(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images and cases")
    group.add_argument(
        "--channels",
        nargs="+",
        default=[],
        metavar="NAME",
        help="images, in this order (default: all found)",
    )
    group.add_argument(
        "--incomplete-dataset-id",
        type=int,
        metavar="ID",
        help="make a second dataset of the cases that lack a channel, with the channels they all have",
    )
    group = parser.add_argument_group("several images of a case")
    group.add_argument(
        "--reference", default="", metavar="NAME", help="image whose grid the case gets (default: the mask's)"
    )
    how = group.add_mutually_exclusive_group()
    how.add_argument(
        "--resample", action="store_true", help="images of one examination: bring the others onto that grid as they lie"
    )
    how.add_argument("--register", choices=["rigid"], help="register the others to it first")
    group.add_argument(
        "--resample-mask",
        action="store_true",
        help="a mask drawn on another image than the reference follows that image, by nearest neighbour",
    )
    group = parser.add_argument_group("privacy")
    group.add_argument(
        "--pseudonymise",
        type=Path,
        metavar="KEYFILE",
        help="other names for subjects and sessions, kept in this file (made if missing); headers are cleaned",
    )
    group.add_argument("--keep-sites", action="store_true", help="leave the names of sites as they are")


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("checks")
    group.add_argument(
        "--exclude", nargs="+", action="extend", default=[], metavar="CASE", help="cases or subjects to leave out"
    )
    group.add_argument("--skip-bad", action="store_true", help="leave out cases that fail a check, with the reason")
    group.add_argument(
        "--empty-masks", choices=["error", "keep", "skip"], default="error", help="a mask without lesion"
    )
    group.add_argument(
        "--allow",
        nargs="+",
        action="extend",
        default=[],
        metavar="CODE",
        help="accept an error by its code, for example DUPLICATE_VOXELS",
    )
    group.add_argument("--quick", action="store_true", help="read headers and masks only, not every voxel")
    group.add_argument("--no-pictures", action="store_true", help="qc.html without pictures of the cases")
    group = parser.add_argument_group("folds of the cross-validation")
    group.add_argument("--folds", type=int, default=5, metavar="N", help="their number")
    group.add_argument("--seed", type=int, default=12345, help="another one gives other folds")
    group.add_argument(
        "--group-by", choices=["subject", "site"], default="subject", help="what is never on two sides of a fold"
    )
    group.add_argument(
        "--fold-list", type=Path, metavar="FILE", help="a published assignment: splits_final.json, or CSV with a fold"
    )
    group.add_argument(
        "--missing-folds", choices=["error", "exclude"], default="error", help="cases that the list does not have"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="cases at a time (default: up to 4)")


def _common(arguments: argparse.Namespace) -> dict[str, Any]:
    from dataset_conversion.convert import DEFAULT_JOBS

    names = (
        *("dataset_id", "name", "raw_folder", "link", "dry_run"),
        *("exclude", "skip_bad", "empty_masks", "allow", "quick"),
        *("folds", "seed", "group_by", "fold_list", "missing_folds"),
    )
    options = {name: getattr(arguments, name) for name in names}
    jobs = DEFAULT_JOBS if arguments.jobs is None else arguments.jobs
    return {**options, "pictures": not arguments.no_pictures, "jobs": jobs}


def _convert(arguments: argparse.Namespace) -> int:
    from dataset_conversion.convert import convert
    from dataset_conversion.memory import keep_freed_memory

    keep_freed_memory()
    return _show(
        convert(
            arguments.source,
            layout=_layout(arguments),
            channels=arguments.channels,
            incomplete_dataset_id=arguments.incomplete_dataset_id,
            reference=arguments.reference,
            align="resample" if arguments.resample else arguments.register or "refuse",
            resample_mask=arguments.resample_mask,
            pseudonyms=arguments.pseudonymise,
            keep_sites=arguments.keep_sites,
            **_common(arguments),
        )
    )


def _merge(arguments: argparse.Namespace) -> int:
    from dataset_conversion.memory import keep_freed_memory
    from dataset_conversion.merge import merge

    keep_freed_memory()
    return _show(merge(arguments.first, arguments.second, overlap=arguments.overlap, **_common(arguments)))


def _show(result: Conversion) -> int:
    print(result)
    return 0


def _scan(arguments: argparse.Namespace) -> int:
    from dataset_conversion.case_table import to_tsv
    from dataset_conversion.convert import scan

    found = scan(arguments.source, _layout(arguments))
    for finding in found.findings:
        print(finding, file=sys.stderr)
    # The same bytes as in a file: names that are not UTF-8 stay as they are on disk.
    sys.stdout.flush()
    sys.stdout.buffer.write(to_tsv(found.cases).encode("utf-8", "surrogateescape"))
    return 0


def _layout(arguments: argparse.Namespace) -> Layout:
    """The layout that the arguments ask for."""
    from dataset_conversion.errors import stop
    from dataset_conversion.layouts import atlas, bids, table
    from dataset_conversion.layouts.yaml_file import read_layout

    if arguments.layout != "kerpape":
        make = {"atlas": atlas.layout, "bids": bids.layout}[arguments.layout]
        layout = make(_entities(arguments.entity))
    elif arguments.layout_file:
        layout = read_layout(arguments.layout_file)
    elif arguments.table:
        layout = table.layout(arguments.table)
    else:
        remedy = (
            "Give --layout YAML (start from `nnunet-transformers convert kerpape --example`) or --table TSV. Nothing "
            "is assumed about this data."
        )
        raise stop("NO_LAYOUT", "how the data lie in the folder must be said", remedy)
    return replace(layout, find=table.layout(arguments.table).find) if arguments.table else layout


def _entities(pairs: Sequence[str]) -> dict[str, str]:
    from dataset_conversion.errors import stop

    found = {}
    for pair in pairs:
        key, dash, value = pair.partition("-")
        if not (key and dash):
            raise stop("BAD_OPTION", f"--entity {pair}: not of the form key-value", "For example: --entity space-orig")
        found[key] = value
    return found


def _example() -> str:
    from dataset_conversion.layouts.yaml_file import example

    return example()


def _known_issues() -> str:
    from dataset_conversion.layouts import atlas

    rows = [(issue.release, issue.subject, issue.problem, issue.source) for issue in atlas.LAYOUT.known_issues]
    head = "Reported by others, not checked by us, and never mended silently:"
    return "\n".join([head, *(f"{release:6} {who:14} {what} ({source})" for release, who, what, source in rows)])
