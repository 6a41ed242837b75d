"""Which cases to show: the best, the median and the worst of the baseline, and where another model differs most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_transformers.common.words import joined
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.metrics.scores_table import CROSS_VALIDATION
from nnunet_transformers.comparison.reporting.blocks import Block, Paragraph, Picture, Section
from nnunet_transformers.comparison.reporting.formatting import millilitres, number
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.notes import one_line_each
from nnunet_transformers.comparison.reporting.overlays import MOST_PREDICTIONS


@dataclass(frozen=True)
class Example:
    """A case to draw.

    Attributes:
        models: whose predictions are outlined.
    """

    set: str
    case: str
    models: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class DrawnExample:
    """An example as a JPEG file, empty where it could not be drawn, and what is missing, as the end of a sentence."""

    example: Example
    jpeg: bytes
    problem: str = ""


def example_cases(values: pd.DataFrame, baseline: str, rival: str | None) -> dict[str, list[str]]:
    """Cases to show with what they are examples of.

    Args:
        values: the metric, higher is better, by case (index) and model (columns).
        rival: the model to compare with the baseline.
    """
    own = values[baseline].dropna()
    # Equal values in the order of the names, so that the choice does not depend on the order of the table.
    ranked = list(own.sort_index().sort_values(kind="stable").index)
    if not ranked:
        return {}
    chosen = [
        (ranked[-1], f"best case of {baseline}"),
        (ranked[(len(ranked) - 1) // 2], f"median case of {baseline}"),
        (ranked[0], f"worst case of {baseline}"),
    ]
    if rival:
        gain = (values[rival] - values[baseline]).dropna().sort_index().sort_values(kind="stable")
        if len(gain) and gain.iloc[-1] > 0:
            chosen.append((gain.index[-1], f"largest gain of {rival}"))
        if len(gain) and gain.iloc[0] < 0:
            chosen.append((gain.index[0], f"largest loss of {rival}"))
    examples: dict[str, list[str]] = {}
    for case, what in chosen:
        examples.setdefault(str(case), []).append(what)
    return examples


def chosen_examples(given: ReportInput, scores: pd.DataFrame, shown: Sequence[str]) -> list[Example]:
    """The cases to show of each set.

    Args:
        scores: of the report's metric.
        shown: models to draw, the baseline first, the one it is compared with second; at most three.
    """
    metric = METRICS[given.metric]
    chosen = []
    for name, rows in scores.groupby("set", sort=False):
        wide = rows.pivot(index="case", columns="model", values="value")
        values = wide[[model for model in given.models if model in wide]]
        here = tuple(model for model in shown if model in values)[:MOST_PREDICTIONS]
        if given.baseline not in values:
            continue
        rival = next((model for model in here if model != given.baseline), None)
        volumes = rows.drop_duplicates("case").set_index("case")["reference_ml"]
        values = values[volumes.reindex(values.index) != 0]  # pictures are of lesions
        for case, what in example_cases(values * metric.sign, given.baseline, rival).items():
            texts = [f"{model} {number(values.loc[case, model], metric.unit)}" for model in values]
            title = f"{joined(what)}: {case}"
            caption = (
                f"{title[0].upper()}{title[1:]}{'' if name == CROSS_VALIDATION else f' ({name})'}, lesion of "
                f"{millilitres(volumes[case])} ml. {metric.label}: {', '.join(texts)}."
            )
            chosen.append(Example(str(name), case, here, caption))
    return chosen


def examples_section(
    given: ReportInput, drawn: Sequence[DrawnExample], shown: Sequence[str]
) -> tuple[Section, list[str]]:
    """Pictures of the example cases, and sentences about those that could not be drawn."""
    blocks: list[Block] = [
        Picture(f"case_{_file_name(f'{each.example.set}_{each.example.case}')}", each.jpeg, each.example.caption)
        for each in drawn
        if each.jpeg
    ]
    if not blocks:
        blocks.append(Paragraph("No case could be drawn; the reasons are listed under “What is not shown, and why”."))
    else:
        of_all = (
            f" Drawn of {len(given.models)} models: {joined(list(shown))}." if len(given.models) > len(shown) else ""
        )
        blocks.insert(
            0,
            Paragraph(
                "Slices through the largest lesion of the reference; above the whole slice, below the lesion enlarged. "
                f"Radiological view: the patient's right (R) is on the left.{of_all}"
            ),
        )
    return Section("Examples", "examples", blocks), one_line_each(
        ((each.example.case, each.problem) for each in drawn if each.problem), "Picture of "
    )


def _file_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in text)
