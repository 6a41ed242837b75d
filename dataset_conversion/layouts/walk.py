"""List a folder recursively, past the droppings of operating systems."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass
class Listing:
    """What lies below a folder, relative to it and sorted.

    Attributes:
        unreadable: folders that could not be read.
        empty: folders in which there is nothing, not even another folder.
        hidden: images whose names start with a dot, but not with the `._` of macOS' droppings.
        dead_links: links to nothing whose names have no ending, as those of folders.
    """

    files: list[PurePosixPath] = field(default_factory=list)
    unreadable: list[PurePosixPath] = field(default_factory=list)
    empty: list[PurePosixPath] = field(default_factory=list)
    hidden: list[PurePosixPath] = field(default_factory=list)
    dead_links: list[PurePosixPath] = field(default_factory=list)


def walk(folder: Path) -> Listing:
    """List a folder.

    Skips names that start with a dot (`._x`, `.DS_Store`) and `__MACOSX`. Follows linked folders, each folder once and
    by its own name where it has one here. A folder whose name is that of an image (`x.nii.gz/`, which some unpackers
    make) is listed as if it were a file.
    """
    found = Listing()

    def relative(path: str | Path) -> PurePosixPath:
        return PurePosixPath(Path(path).relative_to(folder).as_posix())

    def note(error: OSError) -> None:
        found.unreadable.append(relative(error.filename))

    seen: set[str] = set()
    to_walk = [str(folder)]
    for start in to_walk:  # which grows: links come after all that is there itself
        for parent, folders, files in os.walk(start, onerror=note):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            if not folders and not files:
                found.empty.append(relative(parent))
            image_like = [name for name in folders if name.lower().endswith((".nii", ".nii.gz"))]
            kept = sorted(
                name for name in folders if not name.startswith(".") and name != "__MACOSX" and name not in image_like
            )
            links = [name for name in kept if os.path.islink(os.path.join(parent, name))]
            to_walk += [os.path.join(parent, name) for name in links]
            folders[:] = [name for name in kept if name not in links]
            shown = [name for name in (*files, *image_like) if not name.startswith(".")]
            found.files += [relative(parent) / name for name in shown]
            found.hidden += [relative(parent) / name for name in files if _is_hidden_image(name)]
            found.dead_links += [relative(parent) / name for name in shown if _is_dead(os.path.join(parent, name))]
    for paths in (found.files, found.unreadable, found.empty, found.hidden, found.dead_links):
        paths.sort()
    return found


def _is_hidden_image(name: str) -> bool:
    return name.startswith(".") and not name.startswith("._") and name.lower().endswith((".nii", ".nii.gz"))


def _is_dead(path: str) -> bool:
    """Whether it is a link to nothing that may have been a folder; git-annex keeps files such as LICENSE by links."""
    name = os.path.basename(path)
    return "." not in name and os.path.islink(path) and not os.path.exists(path) and ".git" not in os.readlink(path)
