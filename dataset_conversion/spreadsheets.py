"""Tables of text as spreadsheets save them."""

from __future__ import annotations


def decode(content: bytes, *, keep_bytes: bool = False) -> str:
    """UTF-8, what Excel calls Unicode text (UTF-16), or else the code page of western European Windows.

    Args:
        content: of the file.
        keep_bytes: keep what is not UTF-8 as it is, as Python does in file names, instead of taking it for that code
            page.

    Raises:
        UnicodeDecodeError: UTF-16 that is cut off.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig", "surrogateescape" if keep_bytes else "strict")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def delimiter(header: str) -> str:
    """What separates the names in a header line: tabs, or what a spreadsheet makes of them."""
    return max("\t;,", key=header.count)
