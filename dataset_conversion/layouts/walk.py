"""List a folder recursively, past the droppings of operating systems."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


def walk(folder: Path) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    """Files below a folder, and folders that could not be read; relative to it and sorted.

    Skips names that start with a dot (`._x`, `.DS_Store`) and `__MACOSX`. Follows linked folders, each once. A
    folder whose name is that of an image (`x.nii.gz/`, which some unpackers make) is listed as if it were a file.
    """
    found: list[PurePosixPath] = []
    unreadable: list[PurePosixPath] = []

    def note(error: OSError) -> None:
        unreadable.append(PurePosixPath(Path(error.filename).relative_to(folder).as_posix()))

    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=note):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        image_like = [name for name in folders if name.lower().endswith((".nii", ".nii.gz"))]
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name != "__MACOSX" and name not in image_like
        )
        relative = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        found += [relative / name for name in (*files, *image_like) if not name.startswith(".")]
    return sorted(found), sorted(unreadable)
