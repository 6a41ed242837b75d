"""The bytes of a stored file, completely and inflated, or why it cannot be used."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from isal import igzip, isal_zlib
from isal.igzip_lib import IsalError


class BadFileError(Exception):
    """A file that cannot be used: what is wrong with it, what to do, and the code of the finding."""

    def __init__(self, code: str, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.code, self.problem, self.remedy = code, problem, remedy


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is not empty; errors say what to do."""
    try:
        # Unlike Path's, these answer no where the folder may not be entered.
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise BadFileError("UNREADABLE", "not a regular file", "Put the image itself in its place")
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise BadFileError("UNREADABLE", "empty (0 bytes)", "Get the file again")
            yield file
    except FileNotFoundError:
        if path.is_symlink():
            problem, remedy = "a link to a file that is not there", "Fetch its content (datalad get, git annex get)"
        else:
            problem, remedy = "does not exist", "Correct the path"
        raise BadFileError("UNREADABLE", problem, remedy) from None
    except (IsADirectoryError, PermissionError):
        if os.path.isdir(path):
            problem, remedy = "a folder, not a file", "Put the file inside it in its place"
        else:
            problem, remedy = "no permission to read it", "Make it readable (chmod u+r, and u+x for its folder)"
        raise BadFileError("UNREADABLE", problem, remedy) from None
    except OSError as error:
        raise BadFileError("UNREADABLE", f"cannot be read ({error.strerror})", "Get the file again") from None


def read_bytes(path: Path) -> bytes:
    with open_file(path) as file:
        return file.read()


def inflate(stored: bytes, *, all_members: bool = False) -> bytes:
    """Inflate all of it: checks length and CRC, which readers that stop after the last voxel never reach.

    Of several members of which the first is as long as the last, only the first comes unless `all_members` is set.
    """
    size = int.from_bytes(stored[-4:], "little")  # of the last member of a gzip file, which most often is the only one
    try:
        if all_members:
            return igzip.decompress(stored)
        # deflate cannot shrink by more than a factor of 1032: what claims more is damaged.
        content = isal_zlib.decompress(stored, 31, min(max(size, 1), 1032 * len(stored)))
        return content if len(content) == size else igzip.decompress(stored)
    except EOFError:
        raise BadFileError("TRUNCATED", "its gzip data end too early", "Get the file again") from None
    except IsalError as error:  # type: ignore[misc]  # its stub calls the class an instance
        if "incomplete or truncated" in str(error):
            raise BadFileError("TRUNCATED", "its gzip data end too early", "Get the file again") from None
        raise not_gzip(stored, error) from None
    except (OSError, zlib.error) as error:
        raise not_gzip(stored, error) from None


def inflate_zlib(stored: bytes, size: int) -> bytes:
    """Inflate a zlib stream, as in MetaImage, of about `size` bytes; checks that it ends, and its checksum."""
    try:
        return isal_zlib.decompress(stored, 15, min(max(size, 1), 1032 * len(stored) + 1))
    except IsalError as error:  # type: ignore[misc]  # its stub calls the class an instance
        if "incomplete or truncated" in str(error):
            raise BadFileError("TRUNCATED", "its compressed data end too early", "Get the file again") from None
        raise BadFileError("UNREADABLE", f"damaged compressed data ({error})", "Get the file again") from None


def not_fetched(content: bytes) -> BadFileError | None:
    """The error for what stands for a file of git-annex (unlocked) or Git LFS whose content is elsewhere."""
    if content.startswith(b"/annex/objects/"):
        problem, remedy = "git-annex's note of where its content is", "Fetch it (datalad get, git annex get)"
    elif content.startswith(b"version https://git-lfs."):
        problem, remedy = "Git LFS's note of where its content is", "Fetch it (git lfs pull)"
    else:
        return None
    return BadFileError("UNREADABLE", problem, remedy)


def not_gzip(stored: bytes, error: Exception) -> BadFileError:
    if note := not_fetched(stored):
        return note
    if not stored.startswith(b"\x1f\x8b"):
        remedy = "Get the file again, or name it .nii if it is not compressed"
        return BadFileError("UNREADABLE", "named .gz but not gzip data", remedy)
    return BadFileError("UNREADABLE", f"damaged gzip data ({error})", "Get the file again")
