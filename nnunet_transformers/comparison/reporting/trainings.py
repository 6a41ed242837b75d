"""Sections about the models: what was trained and how, how it went, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from nnunet_transformers.common.words import counted, duration, joined, listed
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.metrics.scores_table import CROSS_VALIDATION
from nnunet_transformers.comparison.nnunet.results import Model
from nnunet_transformers.comparison.nnunet.timing import Training
from nnunet_transformers.comparison.reporting import charts
from nnunet_transformers.comparison.reporting.blocks import Block, Chart, Paragraph, Section, Table
from nnunet_transformers.comparison.reporting.checks import count_subjects
from nnunet_transformers.comparison.reporting.drawing import model_style
from nnunet_transformers.comparison.reporting.evidence import Evidence
from nnunet_transformers.comparison.reporting.formatting import millilitres
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.learning_curves import mean_curve
from nnunet_transformers.comparison.reporting.notes import one_line_each


def what_was_compared(given: Evidence, scores: pd.DataFrame) -> Section:
    """Data in a sentence per set, and a table of the models."""
    paragraphs = [Paragraph(_data_sentence(str(name), rows)) for name, rows in scores.groupby("set", sort=False)]
    paragraphs += [Paragraph(text) for text in _folds_and_sites(scores)]
    if not given.knows_subjects:
        paragraphs.append(
            Paragraph(
                "Subjects are taken from the names of the cases, up to _ses-…: if other cases are of one person, the "
                "intervals are too narrow. A cases.tsv in the raw dataset (columns case, subject, site) would tell."
            )
        )
    head = ["", "trainer", "network", "parameters", "plans, configuration", "patch, spacing", "training", "folds"]
    rows, data = [], []
    for name, model in _models(given):
        training, plan = given.trainings[model.identifier], given.configurations[model.identifier]
        folds = sorted({int(fold) for fold in model.scores["fold"].dropna()})
        data.append(_model_row(name, model, training, plan, folds))
        rows.append(
            [
                f"{name} (baseline)" if name == given.baseline else name,
                model.trainer,
                training.network or "unknown",
                f"{training.parameters:,}" if training.parameters else "unknown",
                f"{model.plans}, {model.configuration}",
                f"{_sizes(plan.get('patch_size'))} voxels, {_sizes(plan.get('spacing'))} mm",
                f"{training.length}, batch {training.batch_size or plan.get('batch_size', 'unknown')}",
                _folds(folds, model.missing_folds),
            ]
        )
    caption = (
        "The models. Equal plans and configuration are equal preprocessing; network, optimiser and schedule are each "
        "trainer's own."
    )
    if given.why_baseline:
        paragraphs.append(
            Paragraph(f"Baseline: {given.baseline}; {given.why_baseline}. Another is named with --baseline.")
        )
    blocks: list[Block] = [
        *paragraphs,
        Table(caption, head, rows, name="models", numeric=False, data=pd.DataFrame(data)),
    ]
    if given.results.ensembles:
        members = [
            f"{given.name_of(ensemble.identifier)} averages the probabilities of "
            f"{joined([given.name_of(member) for member in ensemble.members])}"
            for ensemble in given.results.ensembles
        ]
        blocks.append(Paragraph(f"Ensembles: {'; '.join(members)}."))
    selection = given.results.selection
    if selection:
        models = joined([given.name_of(model) for model in selection.models])
        steps = joined(selection.postprocessing_steps) or "none, it did not help"
        others = [name for name, model in _models(given) if model.identifier not in selection.considered]
        without = f" It was made without {joined(others)}." if selection.considered and others else ""
        blocks.append(
            Paragraph(
                f"nnU-Net's own selection (nnUNetv2_find_best_configuration, by mean Dice alone): {models}"
                f"{', as an ensemble' if len(selection.models) > 1 else ''}; postprocessing: {steps}.{without}"
            )
        )
    return Section("What was compared, and how", "compared", blocks)


def learning_curves(given: Evidence) -> tuple[Section, list[str]]:
    """Losses and pseudo Dice over epochs, and sentences about what is not in them."""
    reasons: list[tuple[str, str]] = []
    losses: list[charts.Curve] = []
    dice: list[charts.Curve] = []
    for name, model in _models(given):
        logs = given.trainings[model.identifier].logs
        folds = {fold: log for fold, log in logs.items() if log.validation_loss}
        if not folds:
            reasons.append((name, "there is no training log."))
            continue
        without = [fold for fold in logs if fold not in folds]
        if without:
            reasons.append((name, f"fold {listed(list(map(str, without)))} has no training log."))
        lengths = {fold: len(log.validation_loss) for fold, log in folds.items()}
        if len(set(lengths.values())) > 1:
            texts = ", ".join(f"fold {fold}: {length}" for fold, length in lengths.items())
            why = f"folds have logs of different length ({texts} epochs); it is drawn over the epochs that all have."
            reasons.append((name, why))
        style = model_style(given.styles.get(name, len(given.styles)))
        for curve, kind, faint in (
            (mean_curve([fold.train_loss for fold in folds.values()]), losses, True),
            (mean_curve([fold.validation_loss for fold in folds.values()]), losses, False),
            (mean_curve([fold.pseudo_dice for fold in folds.values()]), dice, False),
        ):
            if curve:
                kind.append(charts.Curve(name, style, curve, faint))
    notes = one_line_each(reasons, "Learning curve of ", len(given.trainings))
    if not losses:
        return Section("Learning curves", "curves", [Paragraph("There is no training log to draw.")]), notes
    panels: list[tuple[str, Sequence[charts.Curve]]] = [("loss", losses)]
    if dice:
        panels.append(("pseudo Dice", dice))
    caption = (
        "Mean over folds. Left: loss on training data (thin) and validation patches (thick), comparable within one "
        "configuration only. Right: nnU-Net's pseudo Dice on validation patches."
    )
    return Section("Learning curves", "curves", [Chart("learning_curves", charts.curves(panels), caption)]), notes


def runtime(given: Evidence, summaries: pd.DataFrame) -> tuple[Section, list[str]]:
    """Time per epoch, of all folds and per validated case; memory; parameters; and the metric against the time.

    Args:
        summaries: of all models, see `statistics.summary`.
    """
    without_log, without_memory, rows, data = [], [], [], []
    for name, model in _models(given):
        training = given.trainings[model.identifier]
        if not training.folds:
            without_log.append((name, "there is no training log."))
        total = training.training_seconds if training.folds else None
        memory, per_case = training.memory, _seconds_per_case(model, training)
        if not memory:
            without_memory.append((name, "nnU-Net does not record it; `compare run` does, for what it trains."))
        rows.append(
            [
                name,
                f"{training.parameters / 1e6:.1f} million" if training.parameters else "unknown",
                duration(training.seconds_per_epoch),
                duration(total),
                str(len(training.folds)),
                duration(per_case),
                f"{memory.mib / 1024:.1f} GiB ({memory.of})" if memory else "not recorded",
                "; ".join(training.machines) or "unknown",
            ]
        )
        data.append(
            {
                "model": name,
                "parameters": training.parameters,
                "seconds_per_epoch_median": training.seconds_per_epoch,
                "training_seconds": total,
                "folds_with_a_log": len(training.folds),
                "validation_seconds": training.validation_seconds,
                "validation_seconds_per_case": per_case,
                "peak_memory_mib": memory.mib if memory else None,
                "peak_memory_of": memory.of if memory else None,
                "machines": "; ".join(training.machines),
            }
        )
    head = [
        "",
        "parameters",
        "per epoch (median)",
        "training, sum of folds",
        "folds with a log",
        "prediction, per validated case",
        "peak memory",
        "machine",
    ]
    table = Table(
        "Runtime by nnU-Net's logs; a shared machine is slower. A prediction is counted with writing it. Memory: the "
        "highest peak of the folds, of tensors on the GPU or, without one, of the process.",
        head, rows, name="runtime", data=pd.DataFrame(data),
    )  # fmt: skip
    models = len(given.trainings)
    notes = one_line_each(without_log, "Times of ", models) + one_line_each(without_memory, "Memory of ", models)
    return Section("What it cost", "runtime", [table, *_against_cost(given, summaries)]), notes


def _seconds_per_case(model: Model, training: Training) -> float | None:
    """Of the folds whose log says how long their validation took."""
    folds = {fold: log.validation_seconds for fold, log in training.folds.items() if log.validation_seconds is not None}
    cases = int(model.scores.loc[model.scores["fold"].isin(list(folds)), "case"].nunique())
    return sum(folds.values()) / cases if cases else None


def _against_cost(given: Evidence, summaries: pd.DataFrame) -> list[Block]:
    """The metric against the hours of training, where two models or more have logs of all their folds."""
    metric = METRICS[given.metric]
    of_metric = summaries[(summaries["set"] == CROSS_VALIDATION) & (summaries["metric"] == given.metric)]
    scores = of_metric.set_index("model").to_dict("index")
    points = []
    for name, model in _models(given):
        training, score = given.trainings[model.identifier], scores.get(name)
        complete = set(training.folds) == {int(fold) for fold in model.scores["fold"].dropna()}
        if score and training.folds and complete:
            value = charts.Interval(score["mean"], score["mean_low"], score["mean_high"])
            hours = training.training_seconds / 3600
            points.append((name, model_style(given.styles.get(name, len(given.styles))), hours, value))
    if len(points) < 2:
        return []
    quantity = f"mean {metric.label}" + (f" ({metric.unit})" if metric.unit else "")
    drawing = charts.against_cost(points, quantity=quantity, cost="hours of training, all folds")
    caption = (
        f"Mean {metric.label} with its interval against the hours that training took, summed over folds. Hours of "
        "different machines do not compare."
    )
    return [Chart("against_cost", drawing, caption)]


def _model_row(
    name: str, model: Model, training: Training, plan: Mapping[str, Any], folds: Sequence[int]
) -> dict[str, object]:
    """A model for the file: sizes per axis of the plans."""
    sizes = {
        f"{what}_{axis}": value
        for what, key in (("patch_voxels", "patch_size"), ("spacing_mm", "spacing"))
        for axis, value in enumerate(plan.get(key) or ())
    }
    return {
        "model": name,
        "trainer": model.trainer,
        "plans": model.plans,
        "configuration": model.configuration,
        "network": training.network,
        "parameters": training.parameters,
        **sizes,
        "epochs": training.epochs,
        "iterations": training.iterations,
        "batch_size": training.batch_size or plan.get("batch_size"),
        "folds": len(folds),
        "missing_folds": len(model.missing_folds),
    }


def _models(given: ReportInput) -> list[tuple[str, Model]]:
    """Trained models with their names, the baseline first."""
    named = [(given.name_of(model.identifier), model) for model in given.results.models]
    return sorted(named, key=lambda pair: given.styles.get(pair[0], len(given.styles)))


def _data_sentence(name: str, rows: pd.DataFrame) -> str:
    cases = rows.drop_duplicates("case")
    subjects = count_subjects(cases)
    sites = sorted(site for site in cases["site"].dropna().unique() if site)
    at = f" from {counted(len(sites), 'site')}" if sites else ", sites unknown"
    volumes = cases.loc[cases["reference_ml"] > 0, "reference_ml"]
    low, middle, high = (millilitres(volumes.quantile(q)) for q in (0, 0.5, 1))
    lesions = f"; lesions of {low} to {high} ml, median {middle} ml" if len(volumes) else ""
    text = f"{name[0].upper()}{name[1:]}: {counted(len(cases), 'case')} of {counted(subjects, 'subject')}{at}{lesions}."
    if name == CROSS_VALIDATION:
        folds = sorted({int(fold) for fold in rows["fold"].dropna()})
        text += (
            f" {counted(len(folds), 'fold')}: each case is scored once, by the network that was not trained on it."
            if folds
            else ""
        )
    return text


def _sizes(values: Sequence[float] | None) -> str:
    return " × ".join(f"{value:.3g}" for value in values) if values else "unknown"


def _folds_and_sites(scores: pd.DataFrame) -> list[str]:
    """Whether a site's cases were scored by networks that had seen the site; nothing where sites are not known."""
    validated = scores[(scores["set"] == CROSS_VALIDATION) & scores["fold"].notna()].drop_duplicates("case")
    sites = validated["site"].fillna("")
    if not len(sites) or (sites == "").any() or sites.nunique() < 2 or validated["fold"].nunique() < 2:
        return []
    shared = validated.groupby("site")["fold"].nunique()
    if (shared == 1).all():
        return ["Folds are cut by site: every case was scored by a network that has seen no case of its site."]
    return [
        f"Of {counted(sites.nunique(), 'site')} {int((shared > 1).sum())} have cases in several folds: most cases were "
        "scored by a network that has seen others of their site, which flatters all models (folds: by site does not)."
    ]


def _folds(there: Sequence[int], missing: Sequence[int]) -> str:
    text = ", ".join(map(str, there)) or "merged"
    return f"{text} (missing: {', '.join(map(str, missing))})" if missing else text
