"""Reports of many models at many sites, still to be read by a person."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.report_example import BASELINE, report_input, score_table

from nnunet_transformers.comparison.reporting import ReportInput
from nnunet_transformers.comparison.reporting.blocks import Bullets, Paragraph, Section, Table
from nnunet_transformers.comparison.reporting.drawing import model_style
from nnunet_transformers.comparison.reporting.notes import one_line_each
from nnunet_transformers.comparison.reporting.page import page, report_sections
from nnunet_transformers.comparison.reporting.short_names import with_short_names
from nnunet_transformers.comparison.statistics.options import Options

NETWORKS = [f"Net{letter}" for letter in "ABCDEFGHIJKL"]
SITES, CASES = 12, 48


def many_models(folder: Path) -> ReportInput:
    """13 models, the later ones better; no image, no debug.json, a log of one fold each."""
    base = np.random.default_rng(0).uniform(0.3, 0.6, CASES)
    values = {BASELINE: base} | {f"nnUNetTrainer{name}": base + 0.01 * n for n, name in enumerate(NETWORKS, 1)}
    scores = score_table(values, sites=SITES, volumes=np.linspace(1, 50, CASES))
    return report_input(folder, scores, options=Options(resamples=100))


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Section]:
    given = many_models(tmp_path_factory.mktemp("many"))
    return {section.anchor: section for section in report_sections(given)}


def table(section: Section, name: str) -> Table:
    return next(block for block in section.blocks if isinstance(block, Table) and block.name == name)


def test_full_names_stand_in_the_table_of_models_and_short_ones_elsewhere(sections: dict[str, Section]) -> None:
    models = table(sections["compared"], "models")
    assert ["NetB", "nnUNetTrainerNetB"] in [list(row[:2]) for row in models.rows]
    text = page("title", list(sections.values()))
    assert text.count("NetB") > 20
    assert text.count("nnUNetTrainerNetB") <= 1 + 6  # and in the commands that train its folds and select
    assert "Names of models leave nnUNetTrainer out" in "".join(
        block.text for block in sections["answer"].blocks if isinstance(block, Paragraph)
    )


def test_few_models_and_names_that_would_be_one_stay_as_they_are(tmp_path: Path) -> None:
    few = report_input(tmp_path / "few", score_table({BASELINE: [0.5] * 5, "nnUNetTrainerNetA": [0.6] * 5}))
    assert with_short_names(few) is few
    values = {name: [0.5] * 5 for name in ("NetA", "nnUNetTrainerNetA", *"abcdef")}
    alike = report_input(tmp_path / "alike", score_table(values), baseline="NetA")
    assert with_short_names(alike) is alike


def test_the_main_table_is_sorted_and_sites_are_a_table_of_rows_by_models(sections: dict[str, Section]) -> None:
    rows = table(sections["scores"], "main").rows
    assert [row[0] for row in rows] == [*reversed(NETWORKS), f"{BASELINE} (baseline)"]
    assert [row[1] for row in rows] == [str(rank) for rank in range(1, 14)]
    sites = table(sections["sites"], "by_site")
    assert list(sites.head) == ["site", "n", *reversed(NETWORKS), BASELINE]
    assert len(sites.rows) == SITES
    assert sites.data is not None
    assert len(sites.data) == SITES * 13


def test_one_line_says_what_many_models_lack(sections: dict[str, Section]) -> None:
    (bullets,) = sections["not-shown"].blocks
    assert isinstance(bullets, Bullets)
    for what in ("Memory of", "Learning curve of", "Times of", "Picture of"):
        assert sum(item.startswith(what) for item in bullets.items) <= 1
    assert len(bullets.items) < 15


def test_reasons_are_gathered() -> None:
    assert one_line_each([("A", "x."), ("B", "y."), ("C", "x.")], "Memory of ") == [
        "Memory of A and C: x.",
        "Memory of B: y.",
    ]
    everyone = [(name, "x.") for name in "ABC"]
    assert one_line_each(everyone, "Memory of ", models=3) == ["Memory of all 3 models: x."]
    assert one_line_each([]) == []


def lab(colour: str) -> np.ndarray:
    """CIELAB of #rrggbb, white point D65."""
    rgb = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ linear / (0.9505, 1, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_thirteen_series_are_told_apart_by_colour_alone() -> None:
    colours = [lab(model_style(place).colour) for place in range(13)]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(colours, 2)) > 20
    assert all(colour[0] < 75 for colour in colours)  # on white
    styles = [model_style(place) for place in range(140)]
    assert len(set(styles)) == 140
    assert all(a.marker != b.marker for a, b in pairwise(styles))
