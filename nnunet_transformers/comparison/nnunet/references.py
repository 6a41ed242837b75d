"""The references that nnU-Net validates on: copies of labelsTr in gt_segmentations, made one after the other.

A copy that was cut off is newer than its source, so nnU-Net leaves it as it is, and every validation, ensemble and
selection is made against it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from nnunet_transformers.common.files import replacing
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.nnunet.results import case_name
from nnunet_transformers.comparison.nnunet.state import is_complete, load_json

_COPY = "gt_segmentations"
_PIECE = 1 << 20  # bytes


def cut_off_references(raw: Path, preprocessed: Path) -> list[Path]:
    """The references of a dataset's preprocessed folder that were cut off.

    Args:
        raw: nnUNet_raw/DatasetNNN_Name, for the sources of the copies; without it a file's own format has to tell.
        preprocessed: nnUNet_preprocessed/DatasetNNN_Name.
    """
    listed = _listed(raw)
    return [
        path
        for path in sorted((preprocessed / _COPY).glob("*"))
        if path.is_file() and _is_cut_off(path, _source(path, raw, listed))
    ]


def restore_references(raw: Path, preprocessed: Path, results: Path) -> None:
    """Copy references that were cut off anew, after removing the scores and selections that were made from them.

    Args:
        results: nnUNet_results/DatasetNNN_Name.

    Raises:
        ComparisonError: the source of one is not there; nothing was removed.
    """
    broken = cut_off_references(raw, preprocessed)
    listed = _listed(raw)
    if missing := [path for path in broken if not _source(path, raw, listed).is_file()]:
        raise ComparisonError(
            f"a reference was cut off while it was copied: {missing[0]}",
            f"Its source is not there: {_source(missing[0], raw, listed)}. Copy the label again and run the same "
            "command. Nothing was removed.",
            "CUT_OFF_REFERENCE",
        )
    if not broken:
        return
    for path in _made_from({case_name(path.name) for path in broken}, results):
        print(f"removed, for it was made from a reference that was cut off: {path}", flush=True)
        path.unlink()
    for path in broken:
        with replacing(path) as partial:
            shutil.copyfile(_source(path, raw, listed), partial)
        print(f"copied again, for it was cut off: {path}", flush=True)


def _made_from(cases: set[str], results: Path) -> Iterator[Path]:
    """The scores of validations and ensembles that have one of the cases, and the selection if there are any."""
    scores = ("*/fold_*/validation", "*/crossval_results_folds_*", "ensembles/*")
    found = False
    for path in (path for folder in scores for path in sorted(results.glob(f"{folder}/summary.json"))):
        content = load_json(path)
        scored = content.get("metric_per_case", []) if isinstance(content, dict) else []
        if cases & {case_name(Path(case["reference_file"]).name) for case in scored}:
            found = True
            yield path
    selection = results / "inference_information.json"
    if found and selection.is_file():
        yield selection


def _is_cut_off(path: Path, source: Path) -> bool:
    try:
        size, whole = path.stat().st_size, source.stat().st_size
    except FileNotFoundError:
        return not is_complete(path)
    if size == whole:
        return False
    return not is_complete(path) or (size < whole and _begins_with(source, path))


def _begins_with(source: Path, path: Path) -> bool:
    with source.open("rb") as long, path.open("rb") as short:
        while piece := short.read(_PIECE):
            if long.read(len(piece)) != piece:
                return False
    return True


def _listed(raw: Path) -> dict[str, str]:
    """Where dataset.json lists the label of a case, relative to its folder."""
    content = load_json(raw / "dataset.json")
    listed = content.get("dataset") if isinstance(content, dict) else None
    return {case: entry["label"] for case, entry in listed.items()} if isinstance(listed, dict) else {}


def _source(path: Path, raw: Path, listed: dict[str, str]) -> Path:
    return raw / listed.get(case_name(path.name), f"labelsTr/{path.name}")
