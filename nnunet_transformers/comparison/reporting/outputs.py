"""Sections as Markdown, tables as CSV and as LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from nnunet_transformers.comparison.reporting.blocks import Bullets, Chart, Code, Paragraph, Picture, Section, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "−": r"$-$", "±": r"$\pm$",
    "▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", "≈": r"$\approx$", "†": r"\dag{}", "≤": r"$\leq$",
    "≥": r"$\geq$", "×": r"$\times$", "²": r"\textsuperscript{2}", "³": r"\textsuperscript{3}", "·": r"$\cdot$",
    "–": "--", "…": r"\ldots{}", "∞": r"$\infty$", "\u00a0": "~", "|": r"\textbar{}", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "‡": r"\ddag{}", "∩": r"$\cap$", "≠": r"$\neq$", "[": "{[}", "]": "{]}",
}  # fmt: skip


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The whole report; figures are links to the files beside it."""
    parts = [f"# {_markdown_text(title)}"]
    for section in sections:
        if section.title:
            parts.append(f"## {_markdown_text(section.title)}")
        for block in section.blocks:
            if isinstance(block, Paragraph):
                text = _markdown_text(block.text)
                parts.append(
                    f"**{text}**" if block.kind == "answer" else f"> {text}" if block.kind == "remark" else text
                )
            elif isinstance(block, Bullets):
                parts.append("\n".join(f"- {_markdown_text(item)}" for item in block.items))
            elif isinstance(block, Code):
                parts.append("\n".join(["```", *block.lines, "```"]))
            elif isinstance(block, Table):
                parts.append(markdown_table(block))
            elif isinstance(block, Chart):
                parts.append(f"![{_markdown_text(block.caption)}](figures/{block.name}.svg)")
            elif isinstance(block, Picture):
                parts.append(f"![{_markdown_text(block.caption)}](figures/{block.name}.jpg)")
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    aligned = "---:" if table.numeric else ":---"
    lines = [
        list(table.head),
        [":---", *[aligned] * (len(table.head) - 1)],
        *(list(map(str, row)) for row in table.rows),
    ]
    cells = [
        "| " + " | ".join(cell if number == 1 else _markdown_cell(cell) for cell in line) + " |"
        for number, line in enumerate(lines)
    ]
    return "\n".join([_markdown_text(table.caption), "", *cells])


def latex_table(table: Table) -> str:
    r"""A table environment for a paper; needs \usepackage{booktabs,amssymb}."""
    columns = "l" + ("r" if table.numeric else "l") * (len(table.head) - 1)
    rows = [" & ".join(latex_text(str(cell)) for cell in row) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"% \usepackage{booktabs,amssymb}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(table.caption)}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(latex_text(cell) for cell in table.head) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def csv_text(table: Table) -> str:
    """Unrounded numbers, in UTF-8 with a header; floats as Python writes them, so that they read back equal."""
    text = [[str(cell) for cell in row] for row in table.rows]
    data = pd.DataFrame(text, columns=list(table.head)) if table.data is None else table.data
    return data.to_csv(index=False, lineterminator="\n")


def latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _markdown_text(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def _markdown_cell(text: str) -> str:
    return _markdown_text(text).replace("\n", " ")
