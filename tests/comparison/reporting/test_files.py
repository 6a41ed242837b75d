"""The report as a reader, a browser and a script get it."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.report_example import BASELINE, CASES, SWIN, UNETR, dice_values, report_input, score_table
from helpers.results_folder import write_images, write_volume
from PIL import Image

from nnunet_transformers.comparison.metrics.images import DataFolders
from nnunet_transformers.comparison.nnunet.results import read_results
from nnunet_transformers.comparison.reporting import write_report
from nnunet_transformers.comparison.reporting.cases import example_cases
from nnunet_transformers.comparison.reporting.overlays import Overlay, overlay
from nnunet_transformers.comparison.reporting.page import page, report_sections

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """Tags, what is loaded, the addresses in the page, its headings and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.alternatives: list[str] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.loaded += [values[name] for name in ("src", "srcset", "data", "action") if name in values]
        self.loaded += [values["href"]] if tag != "a" and "href" in values else []
        self.links += [values["href"]] if tag == "a" else []
        self.ids += [values["id"]] if "id" in values else []
        self.alternatives += [values["alt"]] if tag == "img" else []

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three models on two sets, with pictures of cases and special characters in names."""
    base = tmp_path_factory.mktemp("report")
    values = dice_values()
    scores = [score_table(values), score_table(values, metric="nsd_1mm")]
    scores.append(score_table({model: own[:12] for model, own in values.items()}, where="Kerpape & <co>"))
    given = report_input(base, pd.concat(scores), remarks=("a < b & c",), commands=("echo '<b>'",))
    raw = base / "nnUNet_raw" / "Dataset201_Lesions"
    for case in sorted(given.scores["case"].unique()):
        write_images(raw, case)
    mask = np.zeros((10, 12, 14), np.uint8)
    mask[4:6, 5:7, 6] = 1
    for model in given.results.models:
        for row in model.scores.itertuples():
            write_volume(model.folder / f"fold_{row.fold}" / "validation" / f"{row.case}.nii.gz", mask)
    read = read_results(given.results.folder, given.data.splits)
    given = dataclasses.replace(given, results=read, data=DataFolders(raw, given.data.preprocessed))
    write_report(given, base / "out")
    return base / "out"


@pytest.fixture(scope="module")
def opened(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def console(page: Path) -> list[str]:
    """What the browser writes to its console when it opens a page without a network."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += ["--virtual-time-budget=2000", "--disable-background-networking", f"file://{page}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "</html>" in done.stdout
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on PATH")
def test_a_browser_opens_the_page_without_a_message_or_a_request(folder: Path, tmp_path: Path) -> None:
    assert console(folder / "report.html") == []
    # The page forbids all requests: one that were made would be a message.
    foreign = (folder / "report.html").read_text().replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>')
    (tmp_path / "foreign.html").write_text(foreign)
    assert any("Content Security Policy" in line for line in console(tmp_path / "foreign.html"))


def test_the_page_loads_nothing_and_needs_no_script(opened: Page) -> None:
    assert all(url.startswith("data:") for url in opened.loaded)
    assert not {"script", "iframe", "object", "embed", "base"} & set(opened.tags)
    assert not re.search(r"@import|url\(", opened.source)


def test_links_lead_to_sections_and_every_address_is_there_once(opened: Page) -> None:
    assert all(link.startswith("#") and link[1:] in opened.ids for link in opened.links)
    assert len(opened.ids) == len(set(opened.ids))


def test_every_picture_has_a_text_and_every_figure_a_caption(opened: Page) -> None:
    assert opened.tags.count("figcaption") == opened.tags.count("figure")
    assert opened.source.count('role="img"') == opened.tags.count("svg") > 5
    assert len(opened.alternatives) >= 3
    assert all(len(text) > 20 for text in opened.alternatives)


def test_the_answer_comes_first_and_the_sections_in_their_order(opened: Page) -> None:
    order = [
        f"Yes: {SWIN} segments better",
        "What was compared, and how",
        "Scores: cross-validation",
        "By lesion size: cross-validation",
        "By site and fold: cross-validation",
        "Ranks: cross-validation",
        "Scores: Kerpape & <co>",
        "Best case of",
        "Learning curves",
        "What it cost",
        "nnU-Net does not record it",
        "2 |R ∩ P| / (|R| + |P|)",
        "resamples subjects with all of their cases",
        "SHA-256",
    ]
    body = opened.text[opened.text.index("Yes: ") :]
    places = [body.find(text) for text in order]
    assert -1 not in places
    assert places == sorted(places)


def test_special_characters_are_text(opened: Page) -> None:
    assert "a < b & c" in opened.text
    assert "echo '<b>'" in opened.text
    assert not {"b", "co"} & set(opened.tags)


def test_tables_have_unrounded_numbers_that_agree_with_the_scores(folder: Path) -> None:
    values = dice_values()
    summaries = pd.read_csv(folder / "tables" / "summaries.csv")
    dice = summaries[summaries["metric"] == "dice"].set_index("model")
    for model, own in values.items():
        assert dice.loc[model, "mean"] == pytest.approx(np.mean(own), abs=1e-12)
        assert dice.loc[model, "median"] == pytest.approx(np.median(own), abs=1e-12)
        assert dice.loc[model, "n"] == CASES
    comparisons = pd.read_csv(folder / "tables" / "comparisons.csv")
    swin = comparisons[(comparisons["metric"] == "dice") & (comparisons["model"] == SWIN)].iloc[0]
    assert swin["mean_difference"] == pytest.approx(np.mean(values[SWIN]) - np.mean(values[BASELINE]), abs=1e-10)
    assert swin["wins"] == CASES
    sizes = pd.read_csv(folder / "tables" / "by_lesion_size.csv")
    first = sizes[(sizes["model"] == UNETR) & sizes["stratum"].str.startswith("Q1")].iloc[0]
    assert first["mean"] == pytest.approx(np.mean(values[UNETR][: CASES // 4]), abs=1e-12)


def test_tables_hold_numbers_with_their_units_and_bounds_in_columns_of_their_own(folder: Path) -> None:
    texts = {"model", "set", "metric", "unit", "by", "stratum", "baseline", "verdict", "case", "subject", "site"}
    for path in (folder / "tables").glob("*.csv"):
        if path.stem in ("provenance", "definitions"):
            continue
        table = pd.read_csv(path)
        words = {name for name in table if not pd.api.types.is_numeric_dtype(table[name].dropna())}
        plain = {"trainer", "plans", "configuration", "network", "machines", "peak_memory_of", "test", "other_model"}
        assert words <= texts | plain, path
    main = pd.read_csv(folder / "tables" / "main.csv")
    assert list(main) == [
        "metric", "unit", "model", "n", "mean", "mean_low", "mean_high", "rank", "is_baseline", "verdict",
    ]  # fmt: skip
    assert main[main["metric"] == "dice"].set_index("model")["rank"].to_dict() == {SWIN: 1, BASELINE: 2, UNETR: 3}
    models = pd.read_csv(folder / "tables" / "models.csv").iloc[0]
    assert [models[f"patch_voxels_{axis}"] for axis in range(3)] == [32, 32, 32]


def test_every_figure_is_there_as_svg_and_pdf_and_linked_from_the_markdown(folder: Path) -> None:
    names = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert names == {path.stem for path in (folder / "figures").glob("*.pdf")}
    assert {"forest", "scatter", "by_volume", "by_site", "critical_difference", "learning_curves"} <= names
    linked = re.findall(r"\]\((figures/[^)]+)\)", (folder / "report.md").read_text())
    assert len(linked) >= len(names)
    assert all((folder / path).is_file() for path in linked)
    assert not list(folder.rglob("*.partial"))


def test_a_second_report_of_the_same_results_is_the_same_to_the_byte(tmp_path: Path) -> None:
    given = report_input(tmp_path, score_table({m: v[:10] for m, v in dice_values().items()}))
    assert page("title", report_sections(given)) == page("title", report_sections(given))


def test_a_figure_is_drawn_again_only_if_it_has_changed(tmp_path: Path) -> None:
    values = {model: own[:10] for model, own in dice_values().items()}
    figures = write_report(report_input(tmp_path / "a", score_table(values)), tmp_path / "out").parent / "figures"
    before = {path.name: path.stat().st_ino for path in figures.iterdir()}
    (figures / "scatter.pdf").unlink()
    values[SWIN][0] += 0.2
    write_report(report_input(tmp_path / "b", score_table(values)), tmp_path / "out")
    after = {path.name: path.stat().st_ino for path in figures.iterdir()}
    assert set(after) == set(before)
    assert after["learning_curves.pdf"] == before["learning_curves.pdf"]
    assert after["forest.pdf"] != before["forest.pdf"]


def test_one_model_one_case_is_a_report_too(tmp_path: Path) -> None:
    text = page("title", report_sections(report_input(tmp_path, score_table({BASELINE: [0.5]}))))
    assert "There is no second model to compare with" in text
    assert "Ranking (cross-validation): fewer than two models" in text


def test_only_undefined_scores_are_no_crash(tmp_path: Path) -> None:
    scores = score_table({BASELINE: [np.nan] * 5, SWIN: [np.nan] * 5})
    assert "It cannot be told: Dice is undefined on every case." in page(
        "title", report_sections(report_input(tmp_path, scores))
    )


def test_examples_are_the_best_median_and_worst_case_and_the_largest_gain_and_loss() -> None:
    table = pd.DataFrame({"unet": [0.1, 0.9, 0.5, 0.4, 0.6], "swin": [0.2, 0.8, 0.5, 0.8, 0.1]}, index=list("abcde"))
    assert example_cases(table, "unet", "swin") == {
        "b": ["best case of unet"],
        "c": ["median case of unet"],
        "a": ["worst case of unet"],
        "d": ["largest gain of swin"],
        "e": ["largest loss of swin"],
    }
    assert list(example_cases(table, "unet", None)) == ["b", "c", "a"]


def test_an_overlay_keeps_the_proportions_of_the_patient(tmp_path: Path) -> None:
    # A square of 40 mm in the coronal plane: 10 slices of 4 mm against 40 voxels of 1 mm.
    image = np.zeros((20, 60, 80), np.float32)
    image[5:15, :, 20:60] = 100.0
    reference = np.zeros(image.shape, bool)
    reference[5:15, 25:35, 20:60] = True
    picture = overlay(Overlay(image, reference, {"unet": reference}, (4.0, 1.0, 1.0)))
    path = tmp_path / "overlay.jpg"
    path.write_bytes(picture)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    coronal = pixels[: height // 2, width // 3 : 2 * width // 3]
    bright = np.abs(coronal - coronal.mean(axis=2, keepdims=True)).max(axis=2) > 60  # the yellow outline
    rows, columns = np.where(bright)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.06)


def test_latex_tables_need_no_characters_but_those_of_latex(folder: Path) -> None:
    tables = {path.name: path.read_text() for path in (folder / "tables").glob("*.tex")}
    assert {"main.tex", "definitions.tex", "rank_tests.tex"} <= set(tables)
    assert [name for name, text in tables.items() if not text.isascii()] == []
    assert [name for name, text in tables.items() if "\\\\\n[" in text] == []
