"""Our trainers inside stock nnU-Net: its commands, and the plans a user may come with."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from helpers import failing_backends
from helpers.tiny_dataset import TinyDataset, add_cascade, narrow, set_topology
from nnunetv2.experiment_planning import plan_and_preprocess_api as planning
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint, run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_transformers import __version__
from nnunet_transformers.networks.swin_unetr import SwinUNETR
from nnunet_transformers.plugin.autostart import TRAINER_FOLDER
from nnunet_transformers.training import transformer_trainer
from nnunet_transformers.training.registry import registry
from nnunet_transformers.training.trainers import trainer_names

pytestmark = pytest.mark.end_to_end

CPU = torch.device("cpu")
THOROUGHLY_TESTED = "nnUNetTrainerSwinUNETR"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")

REGIONS = TinyDataset(
    "Dataset101_Regions",
    shape=(16, 18, 20),
    spacing=(1.3, 1.1, 1.0),
    labels={"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
    regions_class_order=[1, 2],
)
ISOTROPIC = TinyDataset(
    "Dataset102_Isotropic",
    shape=(24, 28, 32),
    spacing=(1.0, 1.0, 1.0),
    labels={"background": 0, "rim": 1, "core": 2},
    channels=2,
)
ANISOTROPIC = TinyDataset(
    "Dataset103_Anisotropic",
    shape=(8, 36, 40),
    spacing=(6.0, 0.9, 0.9),
    labels={"background": 0, "rim": 1, "core": 2, "ignore": 3},
)


# ---- nnU-Net's commands --------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., str]:
    """Runs a command of nnU-Net in folders of its own and returns what it printed."""
    environment = os.environ | {folder: str(tmp_path / folder) for folder in FOLDERS}
    # Only the start-up file of the installed package may tell the command where our trainers are.
    environment.pop("nnUNet_extTrainer", None)

    def run(name: str, *arguments: str, **variables: str) -> str:
        executable = shutil.which(name, path=sysconfig.get_path("scripts"))
        assert executable, f"{name} is not beside the interpreter that runs the tests"
        done = subprocess.run(
            [executable, *arguments],
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,  # on a busy machine too
        )
        assert done.returncode == 0, f"{name} {' '.join(arguments)} failed:\n{done.stdout[-4000:]}"
        return done.stdout

    return run


def test_nnunets_commands_plan_train_validate_and_predict(command: Callable[..., str], tmp_path: Path) -> None:
    REGIONS.write(tmp_path / "nnUNet_raw")
    dataset, short = str(REGIONS.id), f"{THOROUGHLY_TESTED}_1epochs_2iterations"
    planned = command(
        "nnUNetv2_plan_and_preprocess",
        *("-d", dataset, "-c", "3d_fullres", "-np", "1", "-npfp", "1", "--verify_dataset_integrity"),
    )
    assert "verify_dataset_integrity Done" in planned
    trained = command(
        *("nnUNetv2_train", dataset, "3d_fullres", "0", "-tr", short, "-device", "cpu", "--npz"), nnUNet_n_proc_DA="0"
    )
    assert "Mean Validation Dice" in trained

    fold = tmp_path / "nnUNet_results" / REGIONS.name / f"{short}__nnUNetPlans__3d_fullres" / "fold_0"
    assert (fold / "checkpoint_final.pth").is_file()
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert set(summary["mean"]) == {"(1, 2)", "(2,)"}
    (exported,) = (fold / "validation").glob("case_*.npz")
    assert np.load(exported)["probabilities"].shape == (2, *REGIONS.shape)

    unseen = tmp_path / "unseen"
    image = np.pad(REGIONS.case(99)[0], [(0, 0), (0, 6), (0, 0), (0, 9)], mode="reflect")
    REGIONS.write_image(unseen, "case_99", image)
    predictions = tmp_path / "predictions"
    command(
        *("nnUNetv2_predict", "-d", dataset, "-c", "3d_fullres", "-f", "0", "-tr", short, "-device", "cpu"),
        *("-i", str(unseen), "-o", str(predictions), "-npp", "0", "-nps", "0"),
    )
    prediction = SimpleITK.ReadImage(str(predictions / "case_99.nii.gz"))
    original = SimpleITK.ReadImage(str(unseen / "case_99_0000.nii.gz"))
    assert prediction.GetSize() == original.GetSize()
    for geometry in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(prediction, geometry)() == pytest.approx(getattr(original, geometry)(), abs=1e-6)
    assert set(np.unique(SimpleITK.GetArrayFromImage(prediction))) <= {0, 1, 2}


# ---- Plans a user may come with ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Plans to train by: nnU-Net's for a dataset, narrowed, and where they are given with another patch and stages."""

    name: str
    dataset: TinyDataset
    configuration: str
    planned: str = "nnUNetPlans"
    patch_size: tuple[int, ...] | None = None
    strides: tuple[tuple[int, ...], ...] | None = None


def halvings(stages: int, dims: int = 3) -> tuple[tuple[int, ...], ...]:
    return ((1,) * dims, *((2,) * dims,) * (stages - 1))


# Every trainer trains by these ...
CASES = [
    Case("2d_as_planned", ISOTROPIC, "2d"),
    Case("anisotropic_as_planned_with_an_ignore_label", ANISOTROPIC, "3d_fullres"),
    Case("regions_with_an_ignore_label", REGIONS, "3d_fullres"),
]
# ... and one of them by these: which stages a network takes is tested in tests/contract.
MORE_CASES = [
    Case("2d_down_to_prime_sizes", ISOTROPIC, "2d", patch_size=(88, 104), strides=halvings(4, dims=2)),
    Case("3d_as_planned", ISOTROPIC, "3d_fullres"),
    Case("three_stages_with_odd_maps", ISOTROPIC, "3d_fullres", patch_size=(20, 28, 12), strides=halvings(3)),
    Case("five_stages_down_to_two_voxels", ISOTROPIC, "3d_fullres", patch_size=(16, 16, 32), strides=halvings(5)),
    Case("residual_encoder_plans", ISOTROPIC, "3d_fullres", planned="nnUNetResEncUNetMPlans"),
]


class QuickFingerprint(DatasetFingerprintExtractor):
    """nnU-Net's draws a hundred million voxels for its intensity statistics, however small the images are."""

    def __init__(self, dataset_name_or_id: str | int, num_processes: int = 8, verbose: bool = False) -> None:
        super().__init__(dataset_name_or_id, num_processes, verbose)
        self.num_foreground_voxels_for_intensitystats = 10_000


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """nnU-Net's folders with two datasets planned and preprocessed, in which its worker processes are threads.

    A process of nnU-Net takes seconds to start, longer than all the work there is here.
    """
    folder = tmp_path_factory.mktemp("nnunet")
    with pytest.MonkeyPatch.context() as patch:
        for name in FOLDERS:
            (folder / name).mkdir()
            patch.setenv(name, str(folder / name))
        patch.setattr(multiprocessing, "get_context", lambda method=None: SimpleNamespace(Pool=ThreadPool))
        patch.setenv("nnUNet_n_proc_DA", "1")  # planning does not survive a 0
        for dataset in (ISOTROPIC, ANISOTROPIC, REGIONS):
            dataset.write(folder / "nnUNet_raw")
            planning.extract_fingerprint_dataset(dataset.id, QuickFingerprint, num_processes=1)
            planning.plan_experiments([dataset.id])
            planning.preprocess([dataset.id], configurations=("2d", "3d_fullres"), num_processes=(1,))
        planning.plan_experiments([ISOTROPIC.id], "nnUNetPlannerResEncM")
        patch.setenv("nnUNet_n_proc_DA", "0")  # augment in this process
        yield folder


def plans_of(workshop: Path, dataset: TinyDataset, planned: str, name: str) -> dict[str, Any]:
    return narrow(json.loads((workshop / "nnUNet_preprocessed" / dataset.name / f"{planned}.json").read_text()), name)


def save_plans(workshop: Path, plans: dict[str, Any]) -> None:
    folder = workshop / "nnUNet_preprocessed" / plans["dataset_name"]
    (folder / f"{plans['plans_name']}.json").write_text(json.dumps(plans))


def train(
    trainer_name: str, dataset: TinyDataset, configuration: str, plans: str, fold: int | str = 0
) -> nnUNetTrainer:
    """Train a fold as nnUNetv2_train does, up to the validation."""
    trainer = get_trainer_from_args(dataset.name, configuration, fold, trainer_name, plans, device=CPU)
    trainer.run_training()
    return trainer


def load(trainer: nnUNetTrainer) -> nnUNetPredictor:
    """Load the trained fold as nnUNetv2_predict does, to predict without mirroring, which takes eight times as long."""
    predictor = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, use_folds=(trainer.fold,))
    return predictor


def assert_same_network(trained: torch.nn.Module, loaded: torch.nn.Module) -> None:
    weights, loaded_weights = trained.state_dict(), loaded.state_dict()
    assert list(weights) == list(loaded_weights)
    assert all(torch.equal(weight, loaded_weights[name]) for name, weight in weights.items())


def assert_predicts(
    predictor: nnUNetPredictor, dataset: TinyDataset, shape: tuple[int, int, int], previous: np.ndarray | None = None
) -> np.ndarray:
    """The prediction, having checked that it is one: labels and probabilities of every voxel."""
    image = np.random.default_rng(7).normal(100, 20, (dataset.channels, *shape)).astype(np.float32)
    segmentation, probabilities = predictor.predict_single_npy_array(
        image, {"spacing": dataset.spacing}, previous, save_or_return_probabilities=True
    )
    assert segmentation.shape == shape
    assert set(np.unique(segmentation)) <= {0, 1, 2}
    assert np.isfinite(probabilities).all()
    if dataset.regions_class_order:
        assert probabilities.shape == (2, *shape)
    else:
        assert probabilities.shape == (3, *shape)
        np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-2)
    return probabilities


@pytest.mark.parametrize(
    ("trainer_name", "case"),
    [
        pytest.param(name, case, id=f"{name}, {case.name}")
        for name in trainer_names()
        for case in [*CASES, *(MORE_CASES if name == THOROUGHLY_TESTED else [])]
    ],
)
def test_any_plans_train_reload_and_predict(trainer_name: str, case: Case, workshop: Path) -> None:
    plans = plans_of(workshop, case.dataset, case.planned, f"{case.planned}_{case.name}")
    if case.patch_size and case.strides:
        set_topology(plans["configurations"][case.configuration], case.patch_size, case.strides)
    save_plans(workshop, plans)

    trainer = train(f"{trainer_name}_1epochs_2iterations", case.dataset, case.configuration, plans["plans_name"])
    assert np.isfinite(trainer.logger.get_value("train_losses", step=-1))
    predictor = load(trainer)
    assert_same_network(trainer.network, predictor.network)
    assert_predicts(predictor, case.dataset, shape=(11, 33, 37))


@pytest.mark.parametrize("trainer_name", trainer_names())
def test_a_cascade_trains_on_the_low_resolution_predictions_and_uses_them(trainer_name: str, workshop: Path) -> None:
    plans = plans_of(workshop, ISOTROPIC, "nnUNetPlans", "nnUNetPlans_cascade")
    set_topology(plans["configurations"]["3d_fullres"], (16, 16, 24), halvings(4))
    add_cascade(plans, (16, 16, 16), halvings(3))
    save_plans(workshop, plans)
    planning.preprocess([ISOTROPIC.id], plans["plans_name"], configurations=("3d_lowres",), num_processes=(1,))

    short = f"{trainer_name}_1epochs_2iterations"
    lowres = train(short, ISOTROPIC, "3d_lowres", plans["plans_name"], fold="all")
    # Fold "all" validates on every case, and so predicts for the next stage all that it trains on.
    lowres.perform_actual_validation()
    assert len(list(Path(lowres.output_folder_base, "predicted_next_stage", "3d_cascade_fullres").iterdir())) == 5
    trainer = train(short, ISOTROPIC, "3d_cascade_fullres", plans["plans_name"])
    predictor = load(trainer)
    assert_same_network(trainer.network, predictor.network)

    shape = (20, 24, 28)
    nothing = np.zeros((1, *shape), dtype=np.int8)
    ball = nothing.copy()
    ball[:, 8:16, 8:16, 8:16] = 1
    without, with_ball = (assert_predicts(predictor, ISOTROPIC, shape, previous) for previous in (nothing, ball))
    assert not np.array_equal(without, with_ball)


# ---- Plans of two stages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer_name", [e.trainer for e in registry() if e.network.min_stages <= 2])
def test_plans_of_two_stages_train_with_a_finite_loss(trainer_name: str, workshop: Path) -> None:
    # nnU-Net's own trainer gives its one output the weight 0 / 0, and ends with NaN and exit code 0.
    plans = plans_of(workshop, ISOTROPIC, "nnUNetPlans", "nnUNetPlans_two_stages")
    set_topology(plans["configurations"]["3d_fullres"], (12, 12, 12), halvings(2))
    save_plans(workshop, plans)
    trainer = train(f"{trainer_name}_1epochs_2iterations", ISOTROPIC, "3d_fullres", plans["plans_name"])
    for losses in ("train_losses", "val_losses"):
        assert np.isfinite(trainer.logger.get_value(losses, step=-1))
    assert all(parameter.isfinite().all() for parameter in trainer.network.parameters())
    assert_predicts(load(trainer), ISOTROPIC, shape=(11, 20, 13))


# ---- A compiler that fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", ["nothing", "in_forward", "in_backward", "in_backward_as_it_runs", "at_another_size"]
)
def test_a_training_whose_compilation_fails_ends_as_one_that_was_never_compiled(
    failure: str, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = {"nothing": "eager", "at_another_size": failing_backends.at_another_size()}.get(failure)
    backend = backend or getattr(failing_backends, failure)
    plans = plans_of(workshop, ISOTROPIC, "nnUNetPlans", f"nnUNetPlans_{failure}")
    set_topology(plans["configurations"]["3d_fullres"], (24, 28, 32), halvings(3))  # one tile, eight mirror images
    save_plans(workshop, plans)

    def trained(trainer_name: str) -> nnUNetTrainer:
        np.random.seed(0)
        torch.manual_seed(0)
        trainer = train(trainer_name, ISOTROPIC, "3d_fullres", plans["plans_name"])
        trainer.perform_actual_validation()
        return trainer

    eager = trained(f"{THOROUGHLY_TESTED}_2epochs_2iterations")
    torch._dynamo.reset()
    compile_default = torch.compile
    with monkeypatch.context() as patch:
        # On a GPU nnU-Net compiles by default; here it has to be told that the CPU is one, and what to compile with.
        patch.setattr(nnUNetTrainer, "_do_i_compile", lambda self: True)
        patch.setattr(transformer_trainer, "OLDEST_TORCH_TO_COMPILE", "1")
        patch.setattr(torch, "compile", lambda module: compile_default(module, backend=backend))
        compiled = trained(f"{THOROUGHLY_TESTED}_2epochs_2iterations")
        patch.setenv("nnUNet_compile", "t")
        predictor = load(compiled)
        assert_predicts(predictor, ISOTROPIC, shape=(11, 20, 13))
    torch._dynamo.reset()
    if failure in ("nothing", "at_another_size"):  # trained compiled
        torch.testing.assert_close(
            compiled.network._orig_mod.state_dict(), eager.network.state_dict(), rtol=0, atol=1e-3
        )
    else:
        assert_same_network(eager.network, compiled.network._orig_mod)
    log = Path(compiled.log_file).read_text()
    assert log.count("torch.compile failed") == (failure != "nothing")
    assert log.count("planted over two lines") == (failure != "nothing")
    scores = [json.loads(Path(t.output_folder, "validation", "summary.json").read_text()) for t in (eager, compiled)]
    assert scores[0]["foreground_mean"]["Dice"] == pytest.approx(scores[1]["foreground_mean"]["Dice"], abs=0.01)


def test_an_older_torch_than_the_networks_compile_with_trains_in_eager_mode_and_says_so(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = plans_of(workshop, ISOTROPIC, "nnUNetPlans", "nnUNetPlans_older_torch")
    set_topology(plans["configurations"]["3d_fullres"], (16, 16, 16), halvings(3))
    save_plans(workshop, plans)
    monkeypatch.setattr(transformer_trainer, "OLDEST_TORCH_TO_COMPILE", "99")
    monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda self: True)
    trainer = train(f"{THOROUGHLY_TESTED}_1epochs_1iterations", ISOTROPIC, "3d_fullres", plans["plans_name"])
    assert isinstance(trainer.network, SwinUNETR)
    assert Path(trainer.log_file).read_text().count("Training in eager mode, slower") == 1


def test_the_results_folder_says_which_package_its_trainer_is_from(workshop: Path) -> None:
    plans = plans_of(workshop, ISOTROPIC, "nnUNetPlans", "nnUNetPlans_origin")
    set_topology(plans["configurations"]["3d_fullres"], (16, 16, 16), halvings(3))
    save_plans(workshop, plans)
    trainer = train(f"{THOROUGHLY_TESTED}_1epochs_1iterations", ISOTROPIC, "3d_fullres", plans["plans_name"])
    description = json.loads(Path(trainer.output_folder_base, "dataset.json").read_text())
    assert description["trainer_from"] == f"Python package nnunet-transformers {__version__}"


# ---- Variants by name ----------------------------------------------------------------------------------------------

SHARED = """
import os, sys
from nnunetv2.inference.predict_from_raw_data import predict_entry_point
from nnunetv2.model_sharing.entry_points import export_pretrained_model_entry, install_from_zip_entry_point

def run(entry_point, *arguments):
    sys.argv = ["nnUNetv2", *arguments]
    entry_point()

if __name__ == "__main__":
    dataset, plans, work, *names = sys.argv[1:]
    results = os.environ["nnUNet_results"]
    for name in names:
        model = ("-d", dataset, "-c", "3d_fullres", "-f", "0", "-tr", name, "-p", plans)
        options = ("-i", f"{work}/unseen", "-device", "cpu", "--disable_tta", "-npp", "0", "-nps", "0")
        os.environ["nnUNet_results"] = results
        run(predict_entry_point, *model, *options, "-o", f"{work}/{name}/trained")
        run(export_pretrained_model_entry, *model, "-o", f"{work}/model.zip")
        os.environ["nnUNet_results"] = f"{work}/imported"
        run(install_from_zip_entry_point, f"{work}/model.zip")
        run(predict_entry_point, *model, *options, "-o", f"{work}/{name}/imported")
"""

FOREIGN = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class MyTrainer(nnUNetTrainer):
    pass
"""


def small_plans(workshop: Path, name: str) -> str:
    plans = plans_of(workshop, ISOTROPIC, "nnUNetPlans", f"nnUNetPlans_{name}")
    set_topology(plans["configurations"]["3d_fullres"], (16, 16, 16), halvings(3))
    save_plans(workshop, plans)
    return str(plans["plans_name"])


def test_variants_train_validate_predict_in_another_process_and_are_shared(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "mine.py").write_text(FOREIGN)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path / "trainers"), TRAINER_FOLDER]))
    plans = small_plans(workshop, "variants")
    names = [
        f"{THOROUGHLY_TESTED}_DiceTopK10_DA5_1epochs_2iterations_seed2",
        "nnUNetTrainer_seed2_1epochs_2iterations_NoMirroring_CE",
        "MyTrainer_DiceLoss_1epochs_2iterations_DA5",
    ]
    for name in names:
        run_training(ISOTROPIC.name, "3d_fullres", 0, name, plans, device=CPU)

    (tmp_path / "imported").mkdir()
    ISOTROPIC.write_image(tmp_path / "unseen", "case_99", ISOTROPIC.case(99)[0])
    (tmp_path / "shared.py").write_text(SHARED)
    arguments = [str(ISOTROPIC.id), plans, str(tmp_path), *names]
    done = subprocess.run([sys.executable, str(tmp_path / "shared.py"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for name in names:
        trained, imported = (
            SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / name / folder / "case_99.nii.gz")))
            for folder in ("trained", "imported")
        )
        assert trained.shape == ISOTROPIC.shape
        assert np.array_equal(trained, imported)


def test_a_seed_repeats_a_training_and_another_one_does_not(workshop: Path) -> None:
    plans = small_plans(workshop, "seeds")

    def losses(seed: int) -> list[float]:
        trainer = train(f"{THOROUGHLY_TESTED}_1epochs_2iterations_seed{seed}", ISOTROPIC, "3d_fullres", plans)
        return trainer.logger.get_value("train_losses", step=None)

    of_seed_2 = losses(2)
    assert losses(2) == of_seed_2
    assert losses(3) != of_seed_2


def test_augmenting_processes_draw_from_the_seed_and_the_epoch_too(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    plans = small_plans(workshop, "processes")

    def first_batches(seed: int, epoch: int = 0) -> list[np.ndarray]:
        arguments = (ISOTROPIC.name, "3d_fullres", 0, f"nnUNetTrainer_DA5_seed{seed}", plans)
        trainer = get_trainer_from_args(*arguments, device=CPU)
        trainer.initialize()
        trainer.current_epoch = epoch
        loaders = trainer.get_dataloaders()
        batches = [next(loader)["data"].numpy() for loader in loaders]
        for loader in loaders:
            loader._finish()
        return batches

    seed_2 = first_batches(2)
    for batch, again in zip(seed_2, first_batches(2), strict=True):
        np.testing.assert_array_equal(batch, again)
    for other in (first_batches(3), first_batches(2, epoch=1)):
        assert not any(np.array_equal(batch, different) for batch, different in zip(seed_2, other, strict=True))


# ---- An interrupted training ---------------------------------------------------------------------------------------


def train_until(trainer: nnUNetTrainer, epoch: int) -> nnUNetTrainer:
    """Train, with a checkpoint after every epoch, until the process is interrupted as this epoch starts."""

    def interrupt() -> None:
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt
        start_epoch()

    start_epoch, trainer.on_epoch_start, trainer.save_every = trainer.on_epoch_start, interrupt, 1
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    return trainer


def test_an_interrupted_training_goes_on_with_the_schedule_and_optimizer_of_an_uninterrupted_one(
    workshop: Path,
) -> None:
    plans = plans_of(workshop, ISOTROPIC, "nnUNetPlans", "nnUNetPlans_resumed")
    set_topology(plans["configurations"]["3d_fullres"], (16, 16, 16), halvings(3))
    save_plans(workshop, plans)

    def trainer(continue_training: bool) -> nnUNetTrainer:
        # 20 epochs warm up for one, so the first three see the rise, the peak and the decay.
        arguments = (ISOTROPIC.name, "3d_fullres", 0, f"{THOROUGHLY_TESTED}_20epochs_1iterations", plans["plans_name"])
        made = get_trainer_from_args(*arguments, continue_training, device=CPU)
        maybe_load_checkpoint(made, continue_training, validation_only=False)
        return made

    uninterrupted = train_until(trainer(continue_training=False), 3)
    interrupted = train_until(trainer(continue_training=False), 1)
    resumed = trainer(continue_training=True)
    assert_same_network(interrupted.network, resumed.network)
    train_until(resumed, 3)

    rates = uninterrupted.logger.get_value("lrs", step=None)
    assert len(set(rates)) == 3
    assert resumed.logger.get_value("lrs", step=None) == rates
    for optimizer in (uninterrupted.optimizer, resumed.optimizer):
        assert {int(state["step"]) for state in optimizer.state.values()} == {3}
