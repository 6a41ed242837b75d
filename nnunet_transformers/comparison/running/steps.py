"""The steps of an experiment, in nnU-Net's own commands, and how each is seen to be done from the files it leaves.

    plan, preprocess ─► train each model and fold ─► select, ensembles ─► predict the test sets ─► their ensembles

Nothing is stored but nnU-Net's files and logs: what is left is found anew whenever it is asked for.
"""

from __future__ import annotations

from nnunet_transformers.comparison.experiment.model import CASCADE, Experiment, Folders, Model
from nnunet_transformers.comparison.running.place import Place, dataset_name
from nnunet_transformers.comparison.running.prediction import prediction_steps
from nnunet_transformers.comparison.running.preprocessing import preprocessing_steps
from nnunet_transformers.comparison.running.selection import selection_steps
from nnunet_transformers.comparison.running.step import Step
from nnunet_transformers.comparison.running.training import train_step


def steps(experiment: Experiment, folders: Folders) -> list[Step]:
    """All steps of an experiment, each after those it needs.

    Raises:
        ComparisonError: a dataset has no folder, or two.
    """
    found: list[Step] = []
    for dataset in experiment.datasets:
        # Cascades come after their first stages.
        if models := sorted(experiment.models_of(dataset.id), key=lambda model: model.configuration == CASCADE):
            place = Place(experiment, dataset, folders, dataset_name(dataset.id, folders))
            preprocessing, ready = preprocessing_steps(place, models)
            trainings: dict[Model, list[Step]] = {}
            for model in models:
                trainings[model] = [train_step(place, model, fold, ready, trainings) for fold in experiment.folds]
            together = [step for of_model in trainings.values() for step in of_model]
            found += [*preprocessing, *together, *selection_steps(place, models, trainings)]
            for test in dataset.test_sets:
                found += prediction_steps(place, test, models, trainings)
    return found
