"""HTML pages that load nothing: the settings of Jinja that all of them share."""

from __future__ import annotations

import base64
from pathlib import Path

import jinja2


def environment(folder: Path) -> jinja2.Environment:
    """For the templates in a folder: what is put into them is escaped, and a name that nobody gave is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(kind: str, content: bytes) -> str:
    """A file as part of the page; the kind is a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
