"""One self-contained HTML page about the models of a dataset: scores, cases, examples, times, and where it comes from.

from nnunet_transformers.comparison.report import write_report

print(write_report(Path("nnUNet_results/Dataset201_ATLAS"), Path("report.html")))

Works on any results folder of nnU-Net v2, with or without trainers of this package. What cannot be shown is named in
the report, with the reason.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from nnunet_transformers.comparison import commands, figures
from nnunet_transformers.comparison.images import DataFolders, read_volume, voxel_ml
from nnunet_transformers.comparison.results import (
    Model,
    Results,
    read_json,
    read_label_names,
    read_results,
    read_scores,
)
from nnunet_transformers.comparison.tables import ScoreRow, entries_of, labels, score_rows, short_names, wide_table
from nnunet_transformers.comparison.timing import Training, read_training

_VERSIONS = ("nnunet-transformers", "nnunetv2", "torch", "dynamic-network-architectures", "SimpleITK", "numpy")


@dataclass(frozen=True)
class TestSet:
    """Predictions of held-out cases.

    Attributes:
        predictions: folder of segmentations; its summary.json (nnUNetv2_evaluate_folder) gives the scores, if any.
        models: identifiers (trainer__plans__configuration) of the model or of the ensemble's members.
        postprocessed: whether nnU-Net's postprocessing was applied.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    predictions: Path
    models: tuple[str, ...]
    postprocessed: bool = False


@dataclass(frozen=True)
class _Example:
    title: str
    picture: str


@dataclass(frozen=True)
class _LabelSection:
    """What is shown for one label."""

    label: str
    rows: list[ScoreRow]
    table: pd.DataFrame
    volumes: pd.Series
    figures: list[_Example]


@dataclass
class _Page:
    """The report while it is put together; `not_shown` collects what is missing and why."""

    results: Results
    data: DataFolders
    names: dict[str, str]
    not_shown: list[str] = field(default_factory=list)


def write_report(
    results: Path,
    output: Path,
    *,
    raw: Path | None = None,
    preprocessed: Path | None = None,
    test: TestSet | None = None,
    commands_run: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> Path:
    """Write the report of a dataset.

    Args:
        results: nnUNet_results/DatasetNNN_Name.
        output: the HTML file; its folder is made, a file of that name is replaced.
        raw, preprocessed: this dataset's folders of images and of splits and references; default: those in the
            environment variables nnUNet_raw and nnUNet_preprocessed. Without them there are no pictures of cases.
        test: predictions of held-out cases.
        commands_run: how the results were made; default: nnU-Net's commands that would make them.
        remarks: sentences a reader has to know first.

    Returns:
        output.

    Raises:
        ComparisonError: there is nothing to report, or a result file cannot be read. Nothing was written then.
    """
    results, output = Path(results), Path(output)
    data = DataFolders(
        raw or _from_environment("nnUNet_raw", results.name),
        preprocessed or _from_environment("nnUNet_preprocessed", results.name),
    )
    read = read_results(results, data.splits)
    page = _Page(read, data, short_names(read))
    trainings = {model.identifier: read_training(model) for model in read.models}
    context = {
        "results": read,
        "names": page.names,
        "remarks": [*_short_run_remark(trainings), *remarks],
        "sections": _label_sections(page),
        "examples": _examples(page),
        "test": test,
        "predicted_by": _predicted_by(page, test)[0] if test else "",
        "test_cases": _test_cases(page, test) if test else [],
        "trainings": trainings,
        "configurations": {model.identifier: _configuration(model) for model in read.models},
        "provenance": _provenance(page),
        "commands": list(commands_run) or _commands(read),
        "not_shown": _not_shown(page, trainings),
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    html = _environment().get_template("report.html.j2").render(context)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    partial.write_text(html, encoding="utf-8")
    partial.replace(output)
    return output


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(dice=_dice, ml=_ml, duration=_duration)
    return environment


def _dice(value: float | None) -> str:
    return "undefined" if value is None or pd.isna(value) else f"{value:.3f}"


def _ml(value: float) -> str:
    return "unknown" if pd.isna(value) else f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{seconds / 60:.1f} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _from_environment(variable: str, dataset: str) -> Path | None:
    folder = Path(os.environ[variable]) / dataset if os.environ.get(variable) else None
    return folder if folder and folder.is_dir() else None


def _short_run_remark(trainings: dict[str, Training]) -> list[str]:
    short = [training for training in trainings.values() if training.is_short]
    if not short:
        return []
    lengths = sorted({f"{training.epochs} epochs of {training.iterations} iterations" for training in short})
    return [
        f"These are short trainings: {' and '.join(lengths)}, where nnU-Net takes 1000 epochs of 250. They show that "
        "the pipeline works from data to report. They do not show which architecture is better."
    ]


def _label_sections(page: _Page) -> list[_LabelSection]:
    rows = score_rows(page.results)
    sections = []
    for label in labels(page.results):
        table = wide_table(page.results, label)
        volumes = _volumes(page, label).reindex(table.index)
        pictures = [_Example("Dice of each case; a line joins the same case", figures.dice_per_case(table))]
        if (volumes > 0).any():
            title = "Dice against the volume of the reference lesion"
            pictures.append(_Example(title, figures.dice_by_volume(table, volumes)))
        unknown = list(volumes.index[volumes.isna()])
        if unknown:
            page.not_shown.append(f"Volumes of {_listed(unknown)}: neither its reference nor its prediction was found.")
        sections.append(_LabelSection(label, [row for row in rows if row.label == label], table, volumes, pictures))
    return sections


def _volumes(page: _Page, label: str) -> pd.Series:
    """Volume of the reference in ml per case; NaN if no file with the size of a voxel was found."""
    volumes: dict[str, float] = {}
    for entry in entries_of(page.results):
        for row in entry.scores[entry.scores["label"] == label].itertuples():
            if row.case not in volumes or pd.isna(volumes[row.case]):
                file = page.data.reference(row.reference) or (row.prediction if row.prediction.is_file() else None)
                volumes[row.case] = row.reference_voxels * voxel_ml(file) if file else float("nan")
    return pd.Series(volumes, dtype=float)


def _examples(page: _Page) -> list[_Example]:
    """Best, median and worst case of the baseline, by its Dice for the first label."""
    label = labels(page.results)[0]
    baseline = page.results.baseline
    scores = baseline.scores[(baseline.scores["label"] == label) & baseline.scores["dice"].notna()]
    ranked = scores.sort_values(["dice", "reference_voxels", "case"], ascending=False).to_dict("records")
    places = (
        dict(zip(("best", "median", "worst"), (0, len(ranked) // 2, len(ranked) - 1), strict=True)) if ranked else {}
    )
    chosen: dict[int, list[str]] = {}
    for word, place in places.items():
        chosen.setdefault(place, []).append(word)
    examples = []
    for place, words in chosen.items():
        case = ranked[place]["case"]
        found = {}
        for entry in entries_of(page.results):
            match = entry.scores[(entry.scores["case"] == case) & (entry.scores["label"] == label)]
            if len(match):
                found[page.names[entry.identifier]] = match.iloc[0]
        text = ", ".join(f"{name} {_dice(row['dice'])}" for name, row in found.items())
        title = f"{' and '.join(words).capitalize()} case of {page.names[baseline.identifier]}: {case}. Dice: {text}."
        predictions = {name: row["prediction"] for name, row in found.items()}
        picture = _picture(page, case, page.data.reference(ranked[place]["reference"]), predictions)
        if picture:
            examples.append(_Example(title, picture))
    return examples


def _picture(
    page: _Page, case: str, reference: Path | None, predictions: dict[str, Path], first_style: int = 0
) -> str | None:
    """The overlay of a case; None, and a line in `not_shown`, if a file is missing or does not fit."""
    image = page.data.image(case)
    there = {name: path for name, path in predictions.items() if path.is_file()}
    if image is None or not (there or reference):
        what = "its image" if image is None else "its predictions"
        page.not_shown.append(
            f"Picture of {case}: {what} was not found (raw data: {page.data.raw or 'nnUNet_raw is not set'})."
        )
        return None
    volume = read_volume(image)
    masks = {name: read_volume(path) for name, path in there.items()}
    truth = read_volume(reference) if reference else None
    if volume is None:
        page.not_shown.append(f"Picture of {case}: only three-dimensional images are drawn.")
        return None
    voxels, spacing = volume
    if any(
        mask is None or mask[0].shape != voxels.shape for mask in [*masks.values(), *([truth] if reference else [])]
    ):
        page.not_shown.append(f"Picture of {case}: image and segmentations are not on one grid.")
        return None
    outlines = {name: mask[0] > 0 for name, mask in masks.items() if mask}
    return figures.overlay(figures.Overlay(voxels, truth[0] > 0 if truth else None, outlines, spacing, first_style))


def _predicted_by(page: _Page, test: TestSet) -> tuple[str, int]:
    """What made the test predictions, and its place among the models and ensembles."""
    names = [page.names.get(model, model) for model in test.models]
    name = names[0] if len(names) == 1 else f"ensemble of {' + '.join(names)}"
    places = list(page.names.values())
    place = places.index(name) if name in places else 0
    return name + (", postprocessed" if test.postprocessed else ""), place


def _test_cases(page: _Page, test: TestSet) -> list[dict[str, Any]]:
    """Per held-out case: its score if there is one, the predicted volume, a picture."""
    name, place = _predicted_by(page, test)
    summary = test.predictions / "summary.json"
    names = read_label_names(page.results.baseline.folder / "dataset.json")
    scores = read_scores(summary, names) if summary.is_file() else None
    cases = []
    for path in sorted(test.predictions.glob("*")):
        case = path.name.split(".")[0]
        if page.data.image(case) is None or path.name.split(".", 1)[-1] in ("npz", "pkl", "json"):
            continue
        predicted = read_volume(path)
        rows = scores[scores["case"] == case].to_dict("records") if scores is not None else []
        reference = page.data.reference(rows[0]["reference"]) if rows else None
        cases.append(
            {
                "case": case,
                "dice": {row["label"]: row["dice"] for row in rows},
                "reference_ml": {row["label"]: row["reference_voxels"] * voxel_ml(path) for row in rows},
                "predicted_ml": float((predicted[0] > 0).sum()) * voxel_ml(path) if predicted else float("nan"),
                "picture": _picture(page, case, reference, {name: path}, place),
            }
        )
    return cases


def _configuration(model: Model) -> dict[str, Any]:
    """The model's configuration in its plans, with what it inherits; empty without the plans."""
    path = model.folder / "plans.json"
    if not path.is_file():
        return {}
    configurations = read_json(path)["configurations"]
    merged: dict[str, Any] = {}
    name = model.configuration
    while name in configurations:
        merged = {**configurations[name], **merged}
        name = configurations[name].get("inherits_from", "")
    return merged


def _provenance(page: _Page) -> list[tuple[str, str]]:
    entries = [("dataset", page.results.dataset), ("results folder", str(page.results.folder.resolve()))]
    splits = page.data.splits
    if splits:
        folds = read_json(splits)
        cases = len({case for fold in folds for case in fold["val"]})
        entries.append(("splits_final.json", f"{len(folds)} folds of {cases} cases, SHA-256 {_sha256(splits)}"))
    for model in page.results.models:
        plans = model.folder / "plans.json"
        if plans.is_file():
            entries.append((f"plans of {page.names[model.identifier]}", f"{model.plans}, SHA-256 {_sha256(plans)}"))
    entries.append(
        ("report written on", f"{platform.platform()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}")
    )
    entries.append(("versions there", ", ".join(f"{name} {_version(name)}" for name in _VERSIONS)))
    return entries


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commands(results: Results) -> list[str]:
    """The commands that make these results from the preprocessed dataset."""
    lines = []
    for model in results.models:
        folds = sorted({*model.missing_folds, *(int(f) for f in model.scores["fold"].dropna().unique())}) or range(5)
        for fold in folds:
            command = commands.train(results.dataset_id, model.configuration, fold, model.trainer, model.plans)
            lines.append(commands.as_text(command))
    parts = [
        list(dict.fromkeys(getattr(model, what) for model in results.models))
        for what in ("configuration", "trainer", "plans")
    ]
    lines.append(commands.as_text(commands.find_best_configuration(results.dataset_id, *parts)))
    return lines


def _not_shown(page: _Page, trainings: dict[str, Training]) -> list[str]:
    results, found = page.results, []
    for model in results.models:
        name = page.names[model.identifier]
        if model.missing_folds:
            folds = ", ".join(map(str, model.missing_folds))
            commands_text = "; ".join(
                commands.as_text(commands.train(results.dataset_id, model.configuration, f, model.trainer, model.plans))
                for f in model.missing_folds
            )
            found.append(f"{name}: fold {folds} has no validation. To add it: {commands_text}")
        found += [f"{name}: {note}" for note in model.notes]
        if not trainings[model.identifier].folds:
            found.append(f"Times of {name}: it has no training log.")
    if not results.ensembles and len(results.models) > 1:
        found.append("Ensembles: nnUNetv2_find_best_configuration has not been run.")
    if results.selection is None:
        found.append("nnU-Net's selection: there is no inference_information.json.")
    return found + page.not_shown


def _listed(cases: Sequence[str], most: int = 5) -> str:
    more = f" and {len(cases) - most} more" if len(cases) > most else ""
    return ", ".join(cases[:most]) + more
