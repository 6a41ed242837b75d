"""The experiment file: what is compared with what, on which data, and where it runs; see benchmarks/experiments.

name: atlas
dataset: 201
trainers:
  - nnUNetTrainer
  - trainer: nnUNetTrainer
    name: ResEnc M
    plans: nnUNetResEncUNetMPlans
    planner: nnUNetPlannerResEncM
  - nnUNetTrainerSwinUNETR
where: {local: {gpus: 2}}
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import yaml

from nnunet_transformers.common.files import write_whole
from nnunet_transformers.common.problems import writing_to
from nnunet_transformers.common.words import nearest
from nnunet_transformers.common.yaml_fields import Problems, Value, read_yaml
from nnunet_transformers.comparison.experiment import variants
from nnunet_transformers.comparison.experiment.model import (
    CASCADE,
    FOLDER_VARIABLES,
    LOWRES,
    Dataset,
    Experiment,
    Local,
    Model,
    Slurm,
    TestSet,
)

_FIELDS = (
    *("name", "dataset", "datasets", "trainers", "folds", *variants.FIELDS, "recipe"),
    *("baseline", "ensembles", "test_sets"),
    *("lesion_labels", "metrics", "scoring", "equivalence_margin", "where", "folders", "output", "remarks", "copy_of"),
)
_DATASET_FIELDS = ("id", "test_sets")
_TEST_SET_FIELDS = ("name", "images", "references")
_TRAINER_FIELDS = (
    *("trainer", "name", "dataset", "plans", "configuration", "planner", "target_spacing", "plans_from"),
    "pretrained_weights",
    *variants.FIELDS,
)
_LOCAL_FIELDS = ("device", "gpus", "at_once")
_DEVICES = ("cuda", "cpu", "mps")
_SLURM_FIELDS = ("device", "partition", "account", "gpus_per_task", "cpus", "memory_gb", "hours", "extra", "setup")
_NOT_KNOWN = 0  # the id of a dataset that the file does not tell rightly
_DEFAULT_MARGIN = {"dice": 0.02}


def parse_experiment(path: Path) -> Experiment:
    """Read an experiment file without looking up what it names, in no time.

    Raises:
        UserError: with the line and the field of everything that is wrong in the file itself.
    """
    experiment, _, _, problems = parse(path)
    problems.raise_if_any()
    return experiment


def snapshot(experiment: Experiment) -> Experiment:
    """Copy the file of an experiment to its output, for jobs to read: the file may change while they are in a queue.

    The copy is named by its content, and says which file it is of, where relative paths start.
    """
    root = read_yaml(experiment.path).node
    if all(key.value != "copy_of" for key, _ in root.value):
        names = (yaml.ScalarNode("tag:yaml.org,2002:str", text) for text in ("copy_of", str(experiment.path)))
        root.value.insert(0, tuple(names))
    text = yaml.serialize(root, allow_unicode=True)
    name = f"{experiment.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.yaml"
    path = experiment.output / "submitted" / name
    with writing_to(path):
        write_whole(path, text)
    return parse_experiment(path)


def parse(path: Path) -> tuple[Experiment, dict[str, Value], list[tuple[Value, Model]], Problems]:
    path = Path(path).resolve()
    root = read_yaml(path)
    fields = root.mapping(_FIELDS, required=("trainers",))
    original = fields["copy_of"].path(path.parent) if "copy_of" in fields else path
    base = original.parent

    datasets = _datasets(root, fields, base)
    of_all = {name: fields[name] for name in variants.FIELDS if name in fields}
    entries = _models(fields["trainers"], datasets, of_all, base) if "trainers" in fields else []
    models = tuple(model for _, model in entries)
    names = list(dict.fromkeys(model.name for model in models))
    name = fields["name"].text() if "name" in fields else original.stem
    if not re.fullmatch(r"[\w.-]+", name) and "name" in fields:
        fields["name"].problem("may have letters, digits, and . _ - only: it names a folder")
    by_site = "folds" in fields and not fields["folds"].is_list and fields["folds"].text() == "by site"
    experiment = Experiment(
        path=path,
        name=name,
        datasets=datasets,
        models=models,
        folds=_folds(fields["folds"]) if "folds" in fields and not by_site else tuple(range(5)),
        baseline=_model_name(fields["baseline"], names) if "baseline" in fields else next(iter(names), ""),
        ensembles=_ensembles(fields["ensembles"], names) if "ensembles" in fields else "pairs",
        lesion_labels=_labels(fields["lesion_labels"]) if "lesion_labels" in fields else (),
        metrics=_metrics(fields["metrics"]) if "metrics" in fields else (),
        equivalence_margin=_margin(fields["equivalence_margin"]) if "equivalence_margin" in fields else _DEFAULT_MARGIN,
        where=_where(fields["where"]) if "where" in fields else Local(),
        folders=_folders(fields["folders"], base) if "folders" in fields else {},
        output=fields["output"].path(base) if "output" in fields else base / name,
        remarks=fields["remarks"].items(Value.text) if "remarks" in fields else (),
        scoring=_scoring(fields["scoring"]) if "scoring" in fields else "all",
        by_site=by_site,
        same_recipe="recipe" in fields and fields["recipe"].one_of(("same",)) == "same",
    )
    return experiment, fields, entries, root.problems


def _datasets(root: Value, fields: dict[str, Value], base: Path) -> tuple[Dataset, ...]:
    if ("dataset" in fields) == ("datasets" in fields):
        root.problem("needs either dataset: ID or datasets: a list", "MISSING_FIELD")
        return (Dataset(_NOT_KNOWN),)
    if "dataset" in fields:
        tests = _test_sets(fields["test_sets"], base) if "test_sets" in fields else ()
        return (Dataset(_dataset_id(fields["dataset"]), tests),)
    if "test_sets" in fields:
        fields["test_sets"].problem("belongs into the dataset it is a test set of, where there is a list of datasets")

    def read(value: Value) -> Dataset:
        if not value.is_mapping:
            return Dataset(_dataset_id(value))
        inside = value.mapping(_DATASET_FIELDS, required=("id",))
        tests = _test_sets(inside["test_sets"], base) if "test_sets" in inside else ()
        return Dataset(_dataset_id(inside["id"]) if "id" in inside else _NOT_KNOWN, tests)

    datasets = fields["datasets"].items(read)
    ids = [dataset.id for dataset in datasets]
    for repeated in sorted({i for i in ids if ids.count(i) > 1}):
        fields["datasets"].problem(f"dataset {repeated} is there twice", "REPEATED")
    return datasets


def _dataset_id(value: Value) -> int:
    """201, or Dataset201_ATLAS, which says the same."""
    match = re.fullmatch(r"(?:Dataset)?(\d{1,3})(?:_.*)?", value.text())
    if not match or not int(match[1]):
        value.problem("must be the number of a dataset of nnU-Net, 1 to 999", "WRONG_TYPE")
        return _NOT_KNOWN
    return int(match[1])


def _test_sets(value: Value, base: Path) -> tuple[TestSet, ...]:
    def read(each: Value) -> TestSet:
        inside = each.mapping(_TEST_SET_FIELDS, required=("name", "images"))
        name = inside["name"].text() if "name" in inside else ""
        if name == "cross-validation":
            inside["name"].problem("is what the cross-validation is called; choose another name")
        if name and not re.fullmatch(r"[\w.-]+", name):
            inside["name"].problem("may have letters, digits, and . _ - only: it names a folder")
        references = inside["references"].path(base) if "references" in inside else None
        return TestSet(name, inside["images"].path(base) if "images" in inside else base, references)

    sets = value.items(read)
    names = [each.name for each in sets]
    for repeated in sorted({n for n in names if names.count(n) > 1}):
        value.problem(f"the name {repeated} is there twice", "REPEATED")
    return sets


def _models(
    value: Value, datasets: Sequence[Dataset], of_all: Mapping[str, Value], base: Path
) -> list[tuple[Value, Model]]:
    models: list[tuple[Value, Model]] = []
    entries = value.items(lambda each: (each, _entry(each, datasets, of_all, base)))
    for entry, found in entries:
        conflicts: dict[str, str] = {}
        for model in found:
            for other_entry, other in models:
                if conflict := _conflict(model, other, other_entry.line):
                    conflicts.setdefault(*conflict)
            models.append((entry, model))
        for code, sentence in conflicts.items():
            entry.problem(sentence, code)
    for entry, model in models:
        if model.configuration == CASCADE and not any(model.goes_on_from(other) for _, other in models):
            entry.problem(
                f"a cascade goes on from {LOWRES}: list {model.trainer} with the plans {model.plans} and "
                f"configuration: {LOWRES} too",
                "MISSING_FIELD",
            )
    if value.is_list and not entries:
        value.problem("is empty: there is nothing to compare", "WRONG_TYPE")
    return models


def _conflict(model: Model, other: Model, line: int) -> tuple[str, str] | None:
    """Code and sentence of what keeps a model from being beside one of an earlier line."""
    if other.dataset != model.dataset:
        return None
    if other.identifier == model.identifier:
        return "SAME_MODEL", (
            f"the same trainer, plans and configuration as on line {line}: nnU-Net would write both into "
            f"{model.identifier}"
        )
    if other.plans == model.plans and _how_planned(other) != _how_planned(model):
        return "SAME_PLANS", (
            f"makes the plans {model.plans} in another way than line {line}: give them another name, or the same "
            "planner, target_spacing and plans_from"
        )
    if other.name == model.name:
        return "SAME_NAME", f"is called {model.name} as the one on line {line}: give it a name"
    return None


def _entry(value: Value, datasets: Sequence[Dataset], of_all: Mapping[str, Value], base: Path) -> list[Model]:
    """The models of one item of `trainers`: on the dataset it names, or else on each; one per run."""
    inside: dict[str, Value] = {"trainer": value}
    if value.is_mapping:
        inside = value.mapping(_TRAINER_FIELDS, required=("trainer",))
    trainer = inside["trainer"].text() if "trainer" in inside else ""
    given = {name: inside[name].text() for name in ("plans", "configuration", "planner") if name in inside}
    texts = {name: text for name, text in given.items() if text}
    for name, text in [("trainer", trainer), *texts.items()]:
        if "__" in text or not re.fullmatch(r"\w*", text):
            inside[name].problem("may have letters, digits and single _ only: nnU-Net splits names of folders at __")
    named = _dataset_id(inside["dataset"]) if "dataset" in inside else None
    if named is not None and named not in [dataset.id for dataset in datasets]:
        inside["dataset"].problem(f"dataset {named} is not among the datasets of the experiment")
    spacing = inside["target_spacing"].items(lambda each: each.number()) if "target_spacing" in inside else ()
    plans_from = _dataset_id(inside["plans_from"]) if "plans_from" in inside else None
    if (spacing or plans_from is not None) and texts.get("plans", "nnUNetPlans") == "nnUNetPlans":
        value.problem("plans of one's own need a name of their own: add plans: NAME", "MISSING_FIELD")
    if spacing and "planner" in texts:
        # Its data would take the place of those at the usual spacing: nnU-Net's ResEnc planners share their folder.
        inside["target_spacing"].problem("goes with nnU-Net's default planner only")
    if plans_from is not None and (spacing or "planner" in texts):
        inside["plans_from"].problem("takes over finished plans: planner and target_spacing do not go with it")
    if not trainer:
        return []
    own = {name: inside[name] for name in variants.FIELDS if name in inside}
    names = variants.variant_names(trainer, {**of_all, **own})
    called = inside["name"].text() if "name" in inside else trainer
    repeated = "runs" in {**of_all, **own}
    return [
        Model(
            name=f"{called} run {run}" if repeated else called,
            dataset=dataset,
            trainer=name,
            **texts,
            target_spacing=spacing,
            plans_from=plans_from,
            pretrained_weights=inside["pretrained_weights"].path(base) if "pretrained_weights" in inside else None,
            repeats=called if repeated else "",
        )
        for dataset in ([named] if named is not None else [each.id for each in datasets])
        for run, name in enumerate(names, start=1)
    ]


def _how_planned(model: Model) -> tuple[object, ...]:
    return model.planner, model.target_spacing, model.plans_from


def _folds(value: Value) -> tuple[int, ...]:
    def read(each: Value) -> int:
        if each.text() == "all":
            each.problem("fold all has no cases to validate on: give numbers")
            return 0
        return each.integer()

    folds = value.items(read)
    if len(set(folds)) < len(folds):
        value.problem("a fold is there twice", "REPEATED")
    if value.is_list and not folds:
        value.problem("is empty: there is nothing to train", "WRONG_TYPE")
    return tuple(sorted(folds))


def _model_name(value: Value, names: Sequence[str]) -> str:
    name = value.text()
    if name and name not in names:
        value.problem(f"{name} is not in the comparison{nearest(name, names)}", "UNKNOWN_MODEL")
    return name


def _ensembles(value: Value, names: Sequence[str]) -> Literal["pairs", "none"] | tuple[tuple[str, ...], ...]:
    if not value.is_list:
        return "none" if value.one_of(("pairs", "none")) == "none" else "pairs"

    def read(each: Value) -> tuple[str, ...]:
        members = each.items(lambda member: _model_name(member, names))
        if each.is_list and (len(members) < 2 or len(set(members)) < len(members)):
            each.problem("an ensemble has at least two different members")
        return members

    return value.items(read)


def _labels(value: Value) -> tuple[int, ...]:
    labels = value.items(lambda each: each.integer(1))
    if value.is_list and not labels:
        value.problem("is empty: no label is lesion", "WRONG_TYPE")
    return labels


def _metrics(value: Value) -> tuple[str, ...]:
    return value.items(_metric)


def _metric(value: Value) -> str:
    from nnunet_transformers.comparison.metrics.definitions import METRICS

    return value.one_of(tuple(METRICS))


def _scoring(value: Value) -> str:
    from nnunet_transformers.comparison.metrics.definitions import SCORINGS

    return value.one_of(tuple(SCORINGS)) or "all"


def _margin(value: Value) -> dict[str, float]:
    """A number is meant for Dice."""
    from nnunet_transformers.comparison.metrics.definitions import METRICS

    margins: dict[str, Value] = value.mapping(tuple(METRICS)) if value.is_mapping else {"dice": value}
    # Scores without a unit lie between 0 and 1: within such a margin any two models are equivalent.
    return {name: margin.number(math.inf if METRICS[name].unit else 1) for name, margin in margins.items()}


def _where(value: Value) -> Local | Slurm:
    if not value.is_mapping:
        return Slurm() if value.one_of(("local", "slurm")) == "slurm" else Local()
    inside = value.mapping(("local", "slurm"))
    if len(inside) != 1:
        value.problem("must be one of local, slurm")
        return Local()
    return _local(inside["local"]) if "local" in inside else _slurm(inside["slurm"])


def _local(value: Value) -> Local:
    fields = value.mapping(_LOCAL_FIELDS)
    device = fields["device"].one_of(_DEVICES) if "device" in fields else "cuda"
    gpus: tuple[str, ...] = ()
    if "gpus" in fields:
        each = fields["gpus"]
        gpus = each.items(Value.text) if each.is_list else tuple(map(str, range(each.integer(1))))
        if device != "cuda":
            each.problem(f"is for device cuda, not {device}")
        if len(set(gpus)) < len(gpus):
            each.problem("a GPU is there twice; at_once puts several trainings on each", "REPEATED")
    return Local(device, gpus, fields["at_once"].integer(1) if "at_once" in fields else max(1, len(gpus)))


def _slurm(value: Value) -> Slurm:
    fields = value.mapping(_SLURM_FIELDS)

    def lines(name: str) -> tuple[str, ...]:
        return fields[name].items(Value.text) if name in fields else ()

    gpus = fields["gpus_per_task"].integer() if "gpus_per_task" in fields else None
    device = fields["device"].one_of(_DEVICES) if "device" in fields else "cpu" if gpus == 0 else "cuda"
    if gpus is not None and (gpus > 0) != (device == "cuda"):
        fields["gpus_per_task"].problem(f"is {gpus} for device {device}")
    return Slurm(
        device=device,
        partition=fields["partition"].text() if "partition" in fields else "",
        account=fields["account"].text() if "account" in fields else "",
        gpus_per_task=gpus if gpus is not None else int(device == "cuda"),
        cpus=fields["cpus"].integer(1) if "cpus" in fields else 8,
        memory_gb=fields["memory_gb"].integer(1) if "memory_gb" in fields else None,
        hours=fields["hours"].number() if "hours" in fields else None,
        extra=lines("extra"),
        setup=lines("setup"),
    )


def _folders(value: Value, base: Path) -> dict[str, Path]:
    return {name: path.path(base) for name, path in value.mapping(tuple(FOLDER_VARIABLES)).items()}
