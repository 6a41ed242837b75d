"""The experiment file: what is read from it, and what is said about one that is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nnunet_transformers.common.problems import UserError
from nnunet_transformers.comparison.experiment.check import read_experiment
from nnunet_transformers.comparison.experiment.file import parse_experiment, snapshot
from nnunet_transformers.comparison.experiment.model import Local, Slurm

READY = Path(__file__).parents[3] / "benchmarks" / "experiments"


def written(folder: Path, text: str) -> Path:
    path = folder / "e.yaml"
    path.write_text(text)
    return path


def wrong(folder: Path, text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        parse_experiment(written(folder, text))
    return caught.value


def test_what_is_not_said_is_as_nnunet_does_it(tmp_path: Path) -> None:
    experiment = parse_experiment(written(tmp_path, "dataset: 7\ntrainers: [nnUNetTrainer, nnUNetTrainerUNETR]\n"))
    unet, unetr = experiment.models
    assert (experiment.name, experiment.output) == ("e", tmp_path / "e")
    assert unet.identifier == "nnUNetTrainer__nnUNetPlans__3d_fullres"
    assert (unet.dataset, unetr.name) == (7, "nnUNetTrainerUNETR")
    assert experiment.folds == (0, 1, 2, 3, 4)
    assert (experiment.baseline, experiment.ensembles, experiment.where) == ("nnUNetTrainer", "pairs", Local())


def test_epochs_are_part_of_the_trainers_name_and_not_of_the_models(tmp_path: Path) -> None:
    experiment = parse_experiment(written(tmp_path, "dataset: 7\nepochs: 100\ntrainers: [nnUNetTrainerUNETR]\n"))
    assert experiment.models[0].trainer == "nnUNetTrainerUNETR_100epochs"
    assert experiment.baseline == "nnUNetTrainerUNETR"


def test_a_trainer_without_a_dataset_is_trained_on_each(tmp_path: Path) -> None:
    text = "datasets: [7, Dataset008_B]\ntrainers: [nnUNetTrainer, {trainer: nnUNetTrainerUNETR, dataset: 8}]\n"
    experiment = parse_experiment(written(tmp_path, text))
    assert [(m.dataset, m.name) for m in experiment.models] == [
        (7, "nnUNetTrainer"),
        (8, "nnUNetTrainer"),
        (8, "nnUNetTrainerUNETR"),
    ]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("{local: {gpus: 2}}", Local("cuda", ("0", "1"), 2)),
        ("{local: {gpus: [3, 1], at_once: 4}}", Local("cuda", ("3", "1"), 4)),
        ("{local: {device: cpu, at_once: 2}}", Local("cpu", (), 2)),
        ("slurm", Slurm()),
        (
            "{slurm: {partition: gpu, hours: 0.5, memory_gb: 48, setup: [module load cuda], extra: [--exclusive]}}",
            Slurm(partition="gpu", hours=0.5, memory_gb=48, setup=("module load cuda",), extra=("--exclusive",)),
        ),
    ],
)
def test_where_it_runs(tmp_path: Path, where: str, expected: Local | Slurm) -> None:
    text = f"dataset: 7\ntrainers: [nnUNetTrainer]\nwhere: {where}\n"
    assert parse_experiment(written(tmp_path, text)).where == expected


def test_relative_paths_start_at_the_file_and_variables_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", "/data")
    text = "dataset: 7\ntrainers: [nnUNetTrainer]\noutput: out\ntest_sets: [{name: t, images: $DATA/images}]\n"
    experiment = parse_experiment(written(tmp_path, text))
    assert experiment.output == tmp_path / "out"
    assert experiment.datasets[0].test_sets[0].images == Path("/data/images")


A = "dataset: 7\ntrainers: [A]\n"
AB = "dataset: 7\ntrainers: [A, B]\n"
LIST = "dataset: 7\ntrainers:\n  - A\n  - "


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        (
            "dataset: 7\ntrainers:\n  - {trainer: A, plan: x}\n",
            3,
            "trainers[0].plan: unknown field; did you mean plans?",
        ),
        ("dataset: 7\ntrainer: [A]\n", 2, "trainer: unknown field; did you mean trainers?"),
        ("dataset: 7\n", 1, "the field trainers is missing"),
        ("trainers: [A]\n", 1, "needs either dataset: ID or datasets: a list"),
        ("dataset: ATLAS\ntrainers: [A]\n", 1, "dataset: must be the number of a dataset"),
        ("dataset: 7\ndataset: 8\ntrainers: [A]\n", 2, "dataset: is there twice, first on line 1"),
        (A + "folds: five\n", 3, "folds: must be a list, not 'five'"),
        (A + "folds: [0,\n  -1]\n", 4, "folds[1]: must be a whole number of at least 0, not '-1'"),
        (A + "folds: [all]\n", 3, "folds[0]: fold all has no cases to validate on"),
        (A + "folds: [1, 1]\n", 3, "folds: a fold is there twice"),
        (A + "epochs: 0\n", 3, "epochs: must be a whole number of at least 1, not '0'"),
        (A + "loss: CEE\n", 3, "loss: 'CEE' is not one of CE, Dice, "),
        (A + "augmentation: DA6\n", 3, "noDummy2DDA; did you mean DA5?"),
        (A + "runs: 0\n", 3, "runs: must be a whole number of at least 1, not '0'"),
        (A + "recipe: alike\n", 3, "recipe: 'alike' is not one of same"),
        ("dataset: 7\nloss: CE\ntrainers: [A, B_Dice]\n", 2, "loss: B_Dice says it in its name already"),
        ("dataset: 7\ntrainers: [{trainer: A_seed2, runs: 2}]\n", 2, "trainers[0].runs: A_seed2 says it in its name"),
        (LIST + "A\n", 4, "the same trainer, plans and configuration as on line 3"),
        (LIST + "{trainer: A, plans: P}\n", 4, "is called A as the one on line 3"),
        (LIST + "{trainer: B, planner: Q}\n", 4, "makes the plans nnUNetPlans in another way than line 3"),
        ("dataset: 7\ntrainers: [a__b]\n", 2, "single _ only"),
        ("dataset: 7\ntrainers: [{trainer: A, target_spacing: [2, 2, 2]}]\n", 2, "need a name of their own"),
        (
            "dataset: 7\ntrainers: [{trainer: A, configuration: 3d_cascade_fullres}]\n",
            2,
            "goes on from 3d_lowres: list A",
        ),
        ("dataset: 7\ntrainers: [nnUNetTrainer]\nbaseline: nnUNetTrainr\n", 3, "did you mean nnUNetTrainer?"),
        (AB + "ensembles: triples\n", 3, "ensembles: 'triples' is not one of pairs, none"),
        (AB + "ensembles: [[A, C]]\n", 3, "ensembles[0][1]: C is not in the comparison"),
        (AB + "ensembles: [[A]]\n", 3, "at least two different members"),
        (A + "metrics: [dise]\n", 3, "metrics[0]: 'dise' is not one of"),
        (A + "equivalence_margin: 0\n", 3, "equivalence_margin: must be a number above 0 and below 1, not '0'"),
        (A + "equivalence_margin: 20\n", 3, "equivalence_margin: must be a number above 0 and below 1, not '20'"),
        (A + "equivalence_margin: {nsd_1mm: 2}\n", 3, "nsd_1mm: must be a number above 0 and below 1, not '2'"),
        (A + "lesion_labels: 1\n", 3, "lesion_labels: must be a list, not '1'"),
        (A + "lesion_labels: [0]\n", 3, "lesion_labels[0]: must be a whole number of at least 1, not '0'"),
        (A + "where: {local: {device: tpu}}\n", 3, "'tpu' is not one of cuda, cpu, mps"),
        (A + "where: {local: {device: cpu, gpus: 1}}\n", 3, "is for device cuda, not cpu"),
        (A + "test_sets: [{name: cross-validation, images: x}]\n", 3, "choose another name"),
        (A + "output: $NOT_SET_ANYWHERE/x\n", 3, "NOT_SET_ANYWHERE is not set"),
        ("dataset: 7\ntrainers: [A\n", 3, "not YAML"),
    ],
)
def test_each_mistake_is_named_with_its_line_and_field(tmp_path: Path, text: str, line: int, expected: str) -> None:
    error = wrong(tmp_path, text)
    assert f"e.yaml, line {line}" in str(error)
    assert expected in str(error)
    assert "Nothing was run" in str(error)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    error = wrong(tmp_path, "dataset: 7\nfold: [0]\ntrainers: [nnUNetTrainer]\nepochs: many\nbaseline: none\n")
    lines = str(error).splitlines()
    assert [line.split("line ")[1][0] for line in lines[:-1]] == ["2", "4", "5"]
    assert error.code == "BAD_EXPERIMENT"


def test_a_margin_in_millimetres_may_be_larger_than_one(tmp_path: Path) -> None:
    experiment = parse_experiment(written(tmp_path, A + "equivalence_margin: {hd95_mm: 5}\n"))
    assert experiment.equivalence_margin == {"hd95_mm": 5}


def test_plans_that_several_others_make_in_another_way_are_told_once(tmp_path: Path) -> None:
    text = "dataset: 7\ntrainers:\n  - A\n  - B\n  - C\n  - {trainer: D, planner: Q}\n"
    assert str(wrong(tmp_path, text)).count("SAME_PLANS") == 2  # the line and the code of the whole


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)cannot read .*none\.yaml.*UNREADABLE_FILE"):
        parse_experiment(tmp_path / "none.yaml")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    assert wrong(tmp_path, "# nothing\n").code == "EMPTY_FILE"


@pytest.mark.parametrize("path", sorted(READY.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_ready_files_are_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, "/data")
    assert parse_experiment(path).name == path.stem


def test_the_atlas_comparison_has_every_trainer_of_this_package() -> None:
    from nnunet_transformers.training.registry import registry

    trainers = {model.trainer for model in parse_experiment(READY / "atlas.yaml").models}
    assert {entry.trainer for entry in registry()} | {"nnUNetTrainer", "nnUNet_PrimusV3S_Trainer"} == trainers


def test_the_isles_comparison_trains_every_trainer_twice_by_one_recipe() -> None:
    from nnunet_transformers.training.registry import registry

    experiment = parse_experiment(READY / "isles26.yaml")
    endings = {f"_DiceTopK10_DA5_seed{run}" for run in (1, 2)}
    trained = [model.trainer for model in experiment.models]
    for trainer in (*(entry.trainer for entry in registry()), "nnUNet_PrimusV3S_Trainer"):
        assert {name.removeprefix(trainer) for name in trained if name.startswith(f"{trainer}_")} == endings
    assert len(trained) == 2 * (len(registry()) + 3)  # U-Net, ResEnc M, Primus
    assert (experiment.by_site, experiment.scoring, experiment.needs_probabilities) == (True, "isles26", True)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's folders with a dataset 7 whose split has three folds."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    raw = tmp_path / "nnUNet_raw" / "Dataset007_Lesions"
    raw.mkdir()
    (raw / "splits_final.json").write_text(json.dumps([{"train": [], "val": []}] * 3))
    return tmp_path


def looked_up(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        read_experiment(written(folder, text))
    return str(caught.value)


def test_what_nnunet_does_not_find_is_named_all_at_once(data: Path) -> None:
    text = (
        "dataset: 7\n"
        "folds: [0, 3]\n"
        "test_sets: [{name: t, images: nowhere}]\n"
        "trainers:\n"
        "  - nnUNetTrainerSwinUNTR\n"
        "  - {trainer: nnUNetTrainer, plans: P, planner: nnUNetPlannerResEncQ}\n"
        "  - {trainer: nnUNetTrainer, name: M, plans: nnUNetResEncUNetMPlans}\n"
        "  - {trainer: nnUNetTrainerUNETR, pretrained_weights: w.pth}\n"
    )
    told = looked_up(data, text)
    assert "line 2, folds: fold 3: dataset 7 has the folds 0 to 2 in its splits_final.json" in told
    assert "line 3, test_sets: no folder with images of t" in told
    assert (
        "line 5, trainers[0]: nnU-Net finds no trainer nnUNetTrainerSwinUNTR; did you mean nnUNetTrainerSwinUNETR?"
        in told
    )
    assert "line 6, trainers[1]: nnU-Net finds no planner nnUNetPlannerResEncQ" in told
    assert "add planner: nnUNetPlannerResEncM" in told
    assert "line 8, trainers[3]: there is no file with these pretrained_weights" in told


def test_what_is_wrong_in_the_file_does_not_hide_what_nnunet_does_not_find(data: Path) -> None:
    text = (
        "dataset: 8\n"
        "metrics: [dise]\n"
        "trainers:\n"
        "  - nnUNetTrainerSwinUNTR\n"
        "  - {name: a}\n"
        "  - {trainer: 5, configuration: []}\n"
        "folders: {raw: nowhere}\n"
    )
    told = looked_up(data, text).splitlines()
    assert [line.split(", line ")[1][0] for line in told[:-1]] == ["1", "2", "4", "5", "6", "6", "7"]
    assert f"folders: raw: there is no folder {data / 'nowhere'}" in told[-2]


def test_without_a_dataset_trainers_are_looked_up_all_the_same(data: Path) -> None:
    told = looked_up(data, "trainers: [nnUNetTrainerSwinUNTR]\n")
    assert "needs either dataset: ID or datasets: a list" in told
    assert "did you mean nnUNetTrainerSwinUNETR?" in told


def test_a_configuration_that_the_plans_do_not_have_is_named(data: Path) -> None:
    preprocessed = data / "nnUNet_preprocessed" / "Dataset007_Lesions"
    preprocessed.mkdir()
    plans = {"configurations": {"2d": {}, "3d_fullres": {}}}
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    told = looked_up(
        data, "dataset: 7\nfolds: [0]\ntrainers:\n  - nnUNetTrainer\n  - {trainer: nnUNetTrainer, configuration: 4d}\n"
    )
    assert "line 5, trainers[1]: nnUNetPlans.json of dataset 7 has no configuration 4d; it has 2d, 3d_fullres" in told
    assert "trainers[0]" not in told


ONE = "dataset: 7\nfolds: [0]\ntrainers: [nnUNetTrainer]\n"


@pytest.mark.parametrize(
    ("labels", "chosen", "line", "expected"),
    [
        ({"lesion": 1, "core": 2}, "", 1, "several labels, lesion (1), core (2)"),
        ({"whole": [1, 2], "core": 2}, "", 1, "several labels, whole (1, 2), core (2)"),
        ({"lesion": 1, "core": 2}, "lesion_labels: [1, 3]\n", 4, "no label 3 among lesion (1), core (2)"),
        ({"lesion": 1, "ignore": 2}, "lesion_labels: [2]\n", 4, "no label 2 among lesion (1)"),
    ],
)
def test_before_anything_is_trained_it_must_be_said_which_of_several_labels_are_lesion(
    data: Path, labels: dict[str, object], chosen: str, line: int, expected: str
) -> None:
    description = data / "nnUNet_raw" / "Dataset007_Lesions" / "dataset.json"
    description.write_text(json.dumps({"labels": {"background": 0, **labels}}))
    told = looked_up(data, ONE + chosen)
    assert f"line {line}, " in told
    assert f"dataset 7: {expected}" in told
    assert "[LESION_LABELS]" in told


def test_primus_has_shorter_runs_too(data: Path) -> None:
    text = "dataset: 7\nepochs: 5\nfolds: [0]\ntrainers: [nnUNet_PrimusV3S_Trainer]\n"
    assert read_experiment(written(data, text)).models[0].trainer == "nnUNet_PrimusV3S_Trainer_5epochs"


def test_a_dataset_that_is_not_there_is_named(data: Path) -> None:
    assert "no folder Dataset008_…" in looked_up(data, "dataset: 8\ntrainers: [nnUNetTrainer]\n")


def test_what_is_all_there_is_accepted_shorter_runs_too(data: Path) -> None:
    text = "dataset: 7\nepochs: 3\nfolds: [0, 2]\ntrainers: [nnUNetTrainer, nnUNetTrainerUNETR]\n"
    assert len(read_experiment(written(data, text)).models) == 2


def test_a_folder_of_nnunet_that_is_not_known_is_named(tmp_path: Path) -> None:
    experiment = parse_experiment(written(tmp_path, "dataset: 7\ntrainers: [A]\nfolders: {raw: r, results: x}\n"))
    with pytest.raises(UserError, match="nnUNet_preprocessed is not set"):
        experiment.nnunet_folders()


@pytest.mark.parametrize(
    "text", ["dataset: 7\ntrainers: [A]\n", "{dataset: 7, trainers: [A]}\n", "---\ndataset: 7\ntrainers: [A]\n"]
)
def test_a_copy_of_the_file_says_the_same_wherever_it_lies_and_whatever_becomes_of_the_file(
    tmp_path: Path, text: str
) -> None:
    path = written(tmp_path, text.replace("[A]", "[{trainer: A, pretrained_weights: w.pth}]"))
    experiment = parse_experiment(path)
    copied = snapshot(experiment)
    path.write_text("edited")
    assert copied.path.parent == experiment.output / "submitted"
    assert replace(copied, path=path) == experiment
    assert snapshot(parse_experiment(copied.path)).path == copied.path


def with_sites(data: Path, sites: str, splits: list[dict[str, list[str]]] | None) -> None:
    """Cases a, b, c … of dataset 7 at these sites ("" is not known), and the split."""
    raw = data / "nnUNet_raw" / "Dataset007_Lesions"
    rows = [f"{case}\tsub-{case}\t{site.strip()}" for case, site in zip("abcdefghij", sites, strict=False)]
    (raw / "cases.tsv").write_text("\n".join(["case\tsubject\tsite", *rows]) + "\n")
    (raw / "splits_final.json").unlink()
    if splits is not None:
        (raw / "splits_final.json").write_text(json.dumps(splits))


def five_folds(cases: str) -> list[dict[str, list[str]]]:
    """Each of five neighbouring pairs is validated on once."""
    pairs = [list(cases[2 * fold : 2 * fold + 2]) for fold in range(5)]
    return [{"train": [c for c in cases if c not in pair], "val": pair} for pair in pairs]


BY_SITE = "dataset: 7\nfolds: by site\ntrainers: [nnUNetTrainer]\n"


def test_folds_by_site_are_those_of_a_split_that_keeps_sites_together(data: Path) -> None:
    with_sites(data, "AABBCCDDEE", five_folds("abcdefghij"))
    experiment = read_experiment(written(data, BY_SITE))
    assert experiment.by_site
    assert experiment.folds == (0, 1, 2, 3, 4)
    with_sites(data, "AABBCCDDDD", five_folds("abcdefghij"))
    told = looked_up(data, BY_SITE)
    assert "line 2, folds: fold 3 of dataset 7 trains and validates on the same site, D" in told
    assert "--group-by site" in told
    assert not read_experiment(written(data, BY_SITE.replace("by site", "[3]"))).by_site


def test_folds_by_site_need_a_split_and_the_site_of_each_case(data: Path) -> None:
    with_sites(data, "AABBCCDDE ", five_folds("abcdefghij"))
    assert "the site of 1 case is not in" in looked_up(data, BY_SITE)
    with_sites(data, "AABBCCDDEE", None)
    assert "dataset 7 has no splits_final.json" in looked_up(data, BY_SITE)
    (data / "nnUNet_raw" / "Dataset007_Lesions" / "splits_final.json").write_text("[]")
    with_sites(data, "AABB", [{"train": ["a", "b"], "val": ["c", "d"]}, {"train": ["c", "d"], "val": ["a", "b"]}])
    assert "fold 2, 3, 4: dataset 7 has the folds 0 to 1" in looked_up(data, BY_SITE)


def test_folds_are_numbers_or_by_site(tmp_path: Path) -> None:
    assert "folds" in str(wrong(tmp_path, BY_SITE.replace("by site", "by centre")))


def test_loss_augmentation_length_and_runs_are_parts_of_the_trainers_names(tmp_path: Path) -> None:
    text = (
        "dataset: 7\nloss: DiceTopK10\naugmentation: DA5\nepochs: 250\nruns: 2\ntrainers:\n"
        "  - nnUNetTrainer\n  - {trainer: nnUNetTrainerUNETR, name: UNETR, loss: CE, epochs: 5, runs: 1}\n"
    )
    experiment = parse_experiment(written(tmp_path, text))
    assert [(model.name, model.trainer, model.repeats) for model in experiment.models] == [
        ("nnUNetTrainer run 1", "nnUNetTrainer_DiceTopK10_DA5_250epochs_seed1", "nnUNetTrainer"),
        ("nnUNetTrainer run 2", "nnUNetTrainer_DiceTopK10_DA5_250epochs_seed2", "nnUNetTrainer"),
        ("UNETR run 1", "nnUNetTrainerUNETR_CE_DA5_5epochs_seed1", "UNETR"),
    ]
    assert experiment.baseline == "nnUNetTrainer run 1"
    assert not experiment.same_recipe


def test_each_run_of_a_cascade_goes_on_from_its_own_first_stage(tmp_path: Path) -> None:
    text = (
        "dataset: 7\nruns: 2\ntrainers:\n  - {trainer: A, name: low, configuration: 3d_lowres}\n"
        "  - {trainer: A, name: cascade, configuration: 3d_cascade_fullres}\n"
    )
    models = parse_experiment(written(tmp_path, text)).models
    goes_on = {m.name: [other.name for other in models if m.goes_on_from(other)] for m in models}
    assert (goes_on["cascade run 1"], goes_on["cascade run 2"]) == (["low run 1"], ["low run 2"])


def test_a_name_that_cannot_be_is_explained_with_its_line(data: Path) -> None:
    text = "dataset: 7\nfolds: [0]\ntrainers:\n  - nnUNetTrainer_DA6\n  - nnUNetTrainerDA5_NoDA\n"
    told = looked_up(data, text)
    assert (
        "line 4, trainers[0]: Could not find requested nnunet trainer nnUNetTrainer_DA6: nnUNetTrainer is there" in told
    )
    assert "did you mean DA5? Losses: CE" in told
    assert "line 5, trainers[1]: nnUNetTrainerDA5_NoDA names two augmentations: leave one out [TWO_VARIANTS]" in told


def test_a_recipe_that_is_not_the_same_is_told_for_each_trainer(data: Path) -> None:
    text = (
        "dataset: 7\nfolds: [0]\nrecipe: same\nepochs: 5\nloss: CE\ntrainers:\n"
        "  - nnUNetTrainer\n"
        "  - nnUNetTrainerUNETR\n"
        "  - {trainer: nnUNetTrainerUNETR, name: other, loss: Dice, augmentation: DA5, runs: 2}\n"
        "  - {trainer: nnUNetTrainerSwinUNETR, epochs: 6}\n"
    )
    told = looked_up(data, text)
    assert (
        "line 9, trainers[2]: has not the recipe of nnUNetTrainer: loss Dice, not CE; augmentation DA5, not nnU-Net's "
        "[OTHER_RECIPE]" in told
    )
    assert (
        "line 10, trainers[3]: has not the recipe of nnUNetTrainer: length 6 epochs, not 5 epochs [OTHER_RECIPE]"
        in told
    )
    assert told.count("has not the recipe") == 2


def test_the_same_recipe_in_other_words_is_the_same(data: Path) -> None:
    text = (
        "dataset: 7\nfolds: [0]\nrecipe: same\nruns: 2\ntrainers:\n"
        "  - nnUNetTrainerDA5\n  - nnUNetTrainerUNETR_DA5\n  - {trainer: nnUNetTrainerSwinUNETR, augmentation: DA5}\n"
    )
    assert read_experiment(written(data, text)).same_recipe
