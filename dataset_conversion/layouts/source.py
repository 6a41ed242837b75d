"""A source folder: its files, or why there is nothing in it to convert."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.layouts.walk import walk
from nnunet_transformers.common.problems import Finding

_DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
_MAX_OPENED = 1000


def list_files(source: Path, expected: str) -> tuple[list[PurePosixPath], list[Finding]]:
    """Files below a source folder, relative to it, and an error for each folder that may not be listed.

    Args:
        source: what the user gave.
        expected: what the layout expects there, as a sentence.

    Raises:
        ConversionError: NO_SOURCE where it is not a folder.
    """
    if not source.is_dir():
        problem = "is not a folder" if source.exists() else "does not exist"
        remedy = "Unpack the archive and give its folder. " if source.is_file() else ""
        raise stop("NO_SOURCE", f"{source} {problem}", remedy + expected)
    paths, unreadable = walk(source)
    findings = [
        Finding("UNREADABLE_FOLDER", f"no permission to list the folder {path}", "Make it readable.")
        for path in unreadable
    ]
    return paths, findings


def no_cases(
    source: Path, paths: Sequence[PurePosixPath], kind: str, expected: str, findings: Sequence[Finding] = ()
) -> ConversionError:
    """The error for a folder without a case of some kind ("ATLAS"); it tells DICOM files from a wrong folder.

    `findings` are what else was found on the way, such as folders that may not be listed.
    """
    problem = f"no {kind} case among the {len(paths)} files under {source}"
    if paths:
        problem += f", such as {', '.join(str(path) for path in paths[:3])}"
    dicom = first_dicom(source, paths)
    if dicom:
        problem += f"; {dicom} is a DICOM file"
        expected = (
            f"Convert DICOM to NIfTI with dcm2niix first (dcm2niix -z y -o NIFTI_FOLDER DICOM_FOLDER). {expected}"
        )
    return ConversionError([Finding("NO_CASES", problem, expected), *findings])


def first_dicom(source: Path, paths: Iterable[PurePosixPath]) -> PurePosixPath | None:
    """The first file with a DICOM ending or, among 1000 others that are not NIfTI, with DICM at byte 128."""
    others = [path for path in paths if not path.name.lower().endswith((".nii", ".nii.gz"))]
    named = next((path for path in others if path.name.lower().endswith(_DICOM_ENDINGS)), None)
    return named or next((path for path in others[:_MAX_OPENED] if _has_dicom_mark(source / path)), None)


def _has_dicom_mark(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
