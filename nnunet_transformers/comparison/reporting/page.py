"""Put the sections together and write them: report.html, report.md, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from markupsafe import Markup

from nnunet_transformers.common.files import replacing, write_whole
from nnunet_transformers.common.page import data_uri, environment
from nnunet_transformers.common.problems import writing_to
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.metrics.scores_table import CROSS_VALIDATION
from nnunet_transformers.comparison.reporting import checks, kept_tables, trainings
from nnunet_transformers.comparison.reporting.answer import answer
from nnunet_transformers.comparison.reporting.blocks import (
    Block,
    Bullets,
    Cell,
    Chart,
    Code,
    Paragraph,
    Picture,
    Section,
    Table,
)
from nnunet_transformers.comparison.reporting.cases import DrawnExample, chosen_examples, examples_section
from nnunet_transformers.comparison.reporting.detection import detection_section
from nnunet_transformers.comparison.reporting.drawing import save_pdf, svg
from nnunet_transformers.comparison.reporting.evidence import Evidence, gather
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.numbers import Numbers, compute
from nnunet_transformers.comparison.reporting.outputs import csv_text, latex_table, markdown
from nnunet_transformers.comparison.reporting.overlays import MOST_PREDICTIONS
from nnunet_transformers.comparison.reporting.pictures import draw
from nnunet_transformers.comparison.reporting.provenance import commands_to_reproduce
from nnunet_transformers.comparison.reporting.score_sections import rank_section, score_section
from nnunet_transformers.comparison.reporting.short_names import with_short_names
from nnunet_transformers.comparison.reporting.stratum_sections import lesion_section, site_section
from nnunet_transformers.comparison.reporting.views import SetView
from nnunet_transformers.comparison.statistics import methods


def write_report(given: ReportInput, folder: Path) -> Path:
    """Write the report of a comparison.

    Args:
        given: scores and where they come from.
        folder: made if it does not exist; gets report.html, which needs no other file, report.md, and the folders
            `tables` (CSV with unrounded numbers, LaTeX) and `figures` (SVG and PDF; JPEG of cases). Files of these
            names are replaced.

    Returns:
        The path of report.html.

    Raises:
        ComparisonError: the scores cannot be reported. Nothing was written then.
    """
    checks.refuse_unusable(given)
    title = given.title or f"{given.results.dataset}: comparison of {_models(given)}"
    sections = report_sections(given, folder / kept_tables.FILE)
    html = page(title, sections)
    blocks = [block for section in sections for block in section.blocks]
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for block in blocks:
            _write_files(block, folder)
        write_whole(folder / "report.md", markdown(title, sections))
        write_whole(folder / "report.html", html)
    return folder / "report.html"


def report_sections(given: ReportInput, kept: Path | None = None) -> list[Section]:
    """The whole report, in the order it is read: files first, then numbers, then what is said of them.

    Args:
        kept: see `numbers.compute`.

    Raises:
        ComparisonError: see `evidence.gather` and `numbers.compute`.
    """
    evidence = gather(with_short_names(given))
    numbers = compute(evidence, kept)
    views = [SetView(evidence, numbers, name) for name in numbers.sets]
    examples = chosen_examples(evidence, numbers.of_metric(given.metric), views[0].shown[:MOST_PREDICTIONS])
    return sections(evidence, numbers, views, draw(evidence, examples))


def sections(
    evidence: Evidence, numbers: Numbers, views: Sequence[SetView], pictures: Sequence[DrawnExample]
) -> list[Section]:
    """The sections of what was read, computed and drawn."""
    curves, curve_notes = trainings.learning_curves(evidence)
    runtime, runtime_notes = trainings.runtime(evidence, numbers.summaries)
    examples, picture_notes = examples_section(evidence, pictures, views[0].shown[:MOST_PREDICTIONS])
    notes = [*_score_notes(evidence, numbers), *curve_notes, *runtime_notes, *picture_notes]
    of_sets = [
        section
        for view in views
        for section in (
            *(score_section(view), lesion_section(view), detection_section(view)),
            *(site_section(view), rank_section(view)),
        )
        if section.blocks
    ]
    return [
        Section(
            "Is any model better than the baseline?",
            "answer",
            [*_remarks(evidence, numbers), *answer(views), *_caveat(numbers)],
        ),
        trainings.what_was_compared(evidence, numbers.scores),
        *of_sets,
        examples,
        curves,
        runtime,
        Section("What is not shown, and why", "not-shown", [Bullets(notes)]),
        _definitions(numbers),
        _methods(evidence, numbers),
        _provenance(evidence),
    ]


def page(title: str, sections: Sequence[Section]) -> str:
    """Sections as one HTML page that loads nothing."""
    templates = environment(Path(__file__).parent)
    templates.filters["svg"] = lambda drawing: Markup(svg(drawing))
    templates.filters["jpeg"] = partial(data_uri, "image/jpeg")
    templates.filters["unbroken"] = _unbroken
    templates.tests["block"] = lambda block, kind: type(block).__name__ == kind
    return templates.get_template("report.html.jinja").render(title=title, sections=sections)


def _models(given: ReportInput) -> str:
    return f"{len(given.models)} models" if len(given.models) > 1 else given.models[0]


def _remarks(given: Evidence, numbers: Numbers) -> list[Paragraph]:
    named = {given.name_of(identifier): training for identifier, training in given.trainings.items()}
    short = {
        name: (training.epochs, training.iterations)
        for name, training in named.items()
        if training.is_short and training.epochs
    }
    epochs = {name: training.epochs for name, training in named.items() if training.epochs}
    remarks = [
        *given.remarks,
        *checks.short_trainings(short),
        *checks.unequal_lengths(epochs),
        *checks.few_subjects(numbers.of_metric(given.metric)),
    ]
    return [Paragraph(text, "remark") for text in remarks]


def _caveat(numbers: Numbers) -> list[Paragraph]:
    texts = [methods.CAVEAT_CROSS_VALIDATION] if CROSS_VALIDATION in numbers.sets else []
    texts += [methods.CAVEAT_TEST_SET] if numbers.sets[-1] != CROSS_VALIDATION else []
    return [Paragraph(f"How sure: {texts[0]}", "soft"), *(Paragraph(text, "soft") for text in texts[1:])]


def _score_notes(given: Evidence, numbers: Numbers) -> list[str]:
    notes = [
        *given.notes,
        *checks.missing_folds(given),
        *checks.models_without_scores(given),
        *checks.splits(given),
        *checks.differing_plans(given),
        *checks.recorded_dice(given),
        *(f"{given.name_of(each.identifier)}: {note}" for each in given.results.models for note in each.notes),
        *given.results.notes,
        *numbers.notes,
        *checks.disagreeing_rows(numbers.scores),
        *checks.empty_references(numbers.scores),
        *checks.undefined_values(numbers.scores),
    ]
    if not given.results.ensembles and len(given.results.models) > 1:
        notes.append("Ensembles: there is none in the results folder (nnUNetv2_find_best_configuration makes them).")
    if given.results.selection is None:
        notes.append("nnU-Net's own selection: there is no inference_information.json.")
    return notes


def _definitions(numbers: Numbers) -> Section:
    there = list(dict.fromkeys(numbers.scores["metric"]))
    rows = [
        [metric.label, metric.unit, metric.definition, metric.source]
        for metric in METRICS.values()
        if metric.name in there
    ]
    table = Table(
        "R: lesion in the reference, P: in the prediction.", ["metric", "unit", "definition", "source"], rows,
        name="definitions", numeric=False,
    )  # fmt: skip
    return Section("Definitions of the metrics", "definitions", [table])


def _methods(given: ReportInput, numbers: Numbers) -> Section:
    units = {name: METRICS[name].unit for name in dict.fromkeys(numbers.scores["metric"])}
    paragraphs = methods.methods_text(given.options, given.baseline, units)
    text = [line for paragraph in paragraphs for line in (paragraph, "")]
    blocks: list[Block] = [
        Paragraph("Text for the methods section of a paper, from the options that were used:"),
        Code(text[:-1]),
        Paragraph("References:"),
        Bullets(methods.REFERENCES),
    ]
    return Section("Methods", "methods", blocks)


def _provenance(given: Evidence) -> Section:
    rows = [list(entry) for entry in given.facts]
    commands = list(given.commands) or commands_to_reproduce(given.results)
    blocks: list[Block] = [
        Table("Hashes are of the files' bytes.", ["fact", "value"], rows, name="provenance", numeric=False),
        Paragraph("Commands:"),
        Code(commands),
    ]
    return Section("Where the numbers come from", "provenance", blocks)


def _write_files(block: Block, folder: Path) -> None:
    if isinstance(block, Table) and block.name:
        write_whole(folder / "tables" / f"{block.name}.csv", csv_text(block))
        write_whole(folder / "tables" / f"{block.name}.tex", latex_table(block))
    elif isinstance(block, Chart):
        _write_chart(block, folder / "figures")
    elif isinstance(block, Picture):
        write_whole(folder / "figures" / f"{block.name}.jpg", block.jpeg)


def _write_chart(chart: Chart, folder: Path) -> None:
    """As SVG and as PDF; what is there of the same shapes stays, as a PDF takes longer than all the rest of a page."""
    text, vector, paper = svg(chart.drawing), folder / f"{chart.name}.svg", folder / f"{chart.name}.pdf"
    if paper.is_file() and vector.is_file() and vector.read_text(encoding="utf-8") == text:
        return
    with replacing(paper) as partial:
        save_pdf(chart.drawing, partial)
    write_whole(vector, text)


def _unbroken(cell: Cell) -> str | Markup:
    """A cell whose interval stays on one line."""
    if isinstance(cell, str):
        return cell
    return Markup('{} <span class="whole">[{}]</span>{}').format(cell.value, cell.bounds, cell.note)
