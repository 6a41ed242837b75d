"""What the report says first, and that the numbers under it are those of the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.report_example import BASELINE, CASES, FEW, SWIN, UNETR, dice_values, report_input, score_table
from scipy import stats

from nnunet_transformers.comparison.reporting.answer import answer
from nnunet_transformers.comparison.reporting.blocks import Bullets, Paragraph
from nnunet_transformers.comparison.reporting.numbers import compute
from nnunet_transformers.comparison.reporting.score_sections import main_table
from nnunet_transformers.comparison.reporting.stratum_sections import running_median
from nnunet_transformers.comparison.reporting.views import SetView
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.verdict import Verdict, beside_interval


def text_of(folder: Path, scores: pd.DataFrame, **changes: object) -> str:
    given = report_input(folder, scores, **changes)
    lines = []
    numbers = compute(given)
    for block in answer([SetView(given, numbers, name) for name in numbers.sets]):
        lines += (
            [block.text] if isinstance(block, Paragraph) else list(block.items) if isinstance(block, Bullets) else []
        )
    return "\n".join(lines)


def test_a_better_model_is_named_with_how_much_how_sure_and_on_which_lesions(tmp_path: Path) -> None:
    values = dice_values()
    text = text_of(tmp_path, score_table(values))
    difference = np.mean(values[SWIN]) - np.mean(values[BASELINE])
    assert text.startswith(f"Yes: {SWIN} segments better than the baseline {BASELINE}, by Dice.")
    assert f"{SWIN} against {BASELINE}: +{difference:.3f} in mean Dice (95 % interval +" in text
    assert f"Holm-corrected p < 0.001) on {CASES} cases of {CASES} subjects" in text
    assert f"{np.mean(values[SWIN]):.3f} against {np.mean(values[BASELINE]):.3f}." in text
    assert "is better with a probability of 100 %" in text
    assert f"On which lesions: {SWIN} is better on lesions of up to" in text
    assert f"{UNETR}: worse, −" in text


def test_the_p_value_is_wilcoxons_after_holm(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    base = rng.uniform(0.3, 0.7, CASES)
    swin, unetr = base + rng.normal(0.02, 0.05, CASES), base + rng.normal(0.0, 0.05, CASES)
    given = report_input(tmp_path, score_table({BASELINE: base, SWIN: swin, UNETR: unetr}))
    table = compute(given).comparisons.set_index("model")
    p = [stats.wilcoxon(other - base, zero_method="pratt").pvalue for other in (swin, unetr)]
    smaller, larger = sorted(p)
    expected = dict(zip(np.argsort(p), (min(1, 2 * smaller), min(1, max(2 * smaller, larger))), strict=True))
    assert table.loc[SWIN, "p_holm"] == pytest.approx(expected[0], rel=1e-6)
    assert table.loc[UNETR, "p_holm"] == pytest.approx(expected[1], rel=1e-6)


def test_noise_is_called_undecided(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    base = rng.uniform(0.3, 0.8, CASES)
    other = base + rng.permutation(np.linspace(-0.2, 0.2, CASES))
    text = text_of(tmp_path, score_table({BASELINE: base, SWIN: other}))
    assert text.startswith(f"It cannot be told whether {SWIN} segments better than the baseline {BASELINE}, by Dice.")
    assert "Undecided: no difference is shown, nor equivalence within 0.02." in text
    assert f"in no quarter by lesion size is a difference of {SWIN} shown" in text


def test_quarters_with_too_few_subjects_for_any_p_value_to_be_small_are_not_called_undecided(tmp_path: Path) -> None:
    base = np.linspace(0.3, 0.7, 24)
    text = text_of(tmp_path, score_table({BASELINE: base, SWIN: base + 0.2}))
    assert text.startswith(f"Yes: {SWIN} segments better")
    assert "On which lesions: there are too few subjects in the quarters by lesion size for a test." in text


def test_the_means_stand_beside_the_difference_only_where_they_are_over_the_same_cases(tmp_path: Path) -> None:
    values = {model: list(own) for model, own in dice_values().items() if model != UNETR}
    values[SWIN][3] = float("nan")
    text = text_of(tmp_path, score_table(values))
    assert text.startswith(f"Yes, on the cases both have: {SWIN} segments better")
    assert f"on {CASES - 1} cases of {CASES - 1} subjects that both were scored on. On a case" in text


def test_the_p_value_beside_equivalent_is_called_that_of_a_difference(tmp_path: Path) -> None:
    base = np.linspace(0.3, 0.8, CASES)
    text = text_of(tmp_path, score_table({BASELINE: base, SWIN: base + np.tile([0.001, -0.001], CASES // 2)}))
    assert "equivalent to the baseline" in text
    assert " of a difference) on 40 cases" in text


def test_equal_models_are_called_equivalent_and_worse_ones_worse(tmp_path: Path) -> None:
    base = np.linspace(0.3, 0.8, 30)
    wobble = np.tile([0.001, -0.001], 15)
    equal = text_of(tmp_path / "equal", score_table({BASELINE: base, SWIN: base + wobble}))
    assert equal.startswith(f"No: the other model is equivalent to the baseline {BASELINE}, by mean Dice within 0.02.")
    worse = text_of(tmp_path / "worse", score_table({BASELINE: base, SWIN: base - 0.1 + wobble}))
    assert worse.startswith(f"No: the other model segments worse than the baseline {BASELINE}, by Dice.")


def test_several_better_models_are_all_named(tmp_path: Path) -> None:
    base = np.linspace(0.3, 0.7, 30)
    noise = np.random.default_rng(0).uniform(0, 0.02, 30)
    text = text_of(tmp_path, score_table({BASELINE: base, UNETR: base + 0.05 + noise, SWIN: base + 0.1 + noise}))
    assert text.startswith("Yes: 2 models segment better")
    assert f"{SWIN} by the most, also {UNETR}." in text


def test_models_that_find_nothing_are_not_ranked(tmp_path: Path) -> None:
    text = text_of(tmp_path, score_table({BASELINE: [0.0] * 12, SWIN: [0.001] * 12}))
    assert text.startswith("No model finds the lesions")


def test_one_model_has_no_rival(tmp_path: Path) -> None:
    text = text_of(tmp_path, score_table({BASELINE: [0.5] * 10}))
    assert text.startswith(f"{BASELINE}: mean Dice 0.500")
    assert "There is no second model to compare with" in text


def test_where_lower_is_better_the_model_with_lower_values_is_better(tmp_path: Path) -> None:
    distance = np.linspace(5, 25, 30)
    noise = np.random.default_rng(0).uniform(0, 1, 30)
    models = {BASELINE: distance, SWIN: distance - 4 - noise, UNETR: distance - 1 - noise}
    scores = [score_table(models, metric="hd95_mm"), score_table({model: [0.5] * 30 for model in models})]
    text = text_of(tmp_path, pd.concat(scores), metric="hd95_mm")
    assert text.startswith(f"Yes: 2 models segment better than the baseline {BASELINE}, by HD95: {SWIN} by the most")
    assert f"{SWIN} against {BASELINE}: −4." in text
    assert " mm in mean HD95" in text


def test_a_model_on_other_cases_is_compared_on_the_common_ones_only(tmp_path: Path) -> None:
    values = dice_values()
    scores = score_table({BASELINE: values[BASELINE], SWIN: values[SWIN], UNETR: values[UNETR]})
    scores = scores[~((scores["model"] == SWIN) & (scores["fold"] == 4))]
    text = text_of(tmp_path, scores)
    assert text.startswith(f"Yes, on the cases both have: {SWIN} segments better than the baseline {BASELINE}")
    assert f"on {CASES * 4 // 5} cases of {CASES * 4 // 5} subjects that both were scored on." in text
    assert f"{SWIN}: better" in text
    assert f"n = {CASES * 4 // 5}; not scored on {CASES // 5} cases of the others" in text


def test_a_model_on_all_cases_is_preferred_to_one_on_some(tmp_path: Path) -> None:
    base = np.linspace(0.3, 0.7, CASES)
    noise = np.random.default_rng(0).uniform(0, 0.02, CASES)
    scores = score_table({BASELINE: base, UNETR: base + 0.05 + noise, SWIN: base + 0.1 + noise})
    text = text_of(tmp_path, scores[~((scores["model"] == SWIN) & (scores["fold"] == 0))])
    assert text.startswith(f"Yes: 2 models segment better than the baseline {BASELINE}, by Dice: {UNETR} by the most")


def test_the_main_table_has_means_marks_and_its_n(tmp_path: Path) -> None:
    values = dice_values()
    values[SWIN][3] = np.nan
    scores = pd.concat([score_table(values), score_table(values, metric="nsd_1mm").query("case != 'case07'")])
    given = report_input(tmp_path, scores)
    table = main_table(SetView(given, compute(given), "cross-validation"))
    assert list(table.head) == ["", "rank", "n", "Dice ↑", "NSD at 1 mm ↑"]
    baseline, unetr, swin = ([str(cell) for cell in row] for row in table.rows)
    assert baseline[:3] == [f"{BASELINE} (baseline)", "1", str(CASES)]
    assert baseline[3].startswith(f"{np.mean(values[BASELINE]):.3f} [")
    assert swin[:3] == [f"{SWIN} †", "–", str(CASES - 1)]  # undefined on a case, so its mean is not comparable
    assert swin[3].startswith(f"{np.nanmean(values[SWIN]):.3f} ▲ [")
    assert unetr[3].startswith(f"{np.mean(values[UNETR]):.3f} ▼ [")
    assert unetr[4].endswith(f"(n = {CASES - 1})")


def test_a_model_that_lacks_cases_is_marked_in_the_main_table(tmp_path: Path) -> None:
    scores = score_table(dice_values())
    given = report_input(tmp_path, scores[~((scores["model"] == SWIN) & (scores["fold"] == 1))])
    table = main_table(SetView(given, compute(given), "cross-validation"))
    assert [row[0] for row in table.rows] == [f"{BASELINE} (baseline)", UNETR, f"{SWIN} †"]


def test_the_main_table_is_sorted_by_score_with_ranks(tmp_path: Path) -> None:
    given = report_input(tmp_path, score_table(dice_values()))
    table = main_table(SetView(given, compute(given), "cross-validation"))
    assert [row[:2] for row in table.rows] == [[SWIN, "1"], [f"{BASELINE} (baseline)", "2"], [UNETR, "3"]]


def test_a_verdict_that_its_interval_does_not_suggest_says_why(tmp_path: Path) -> None:
    base = np.linspace(0.3, 0.7, CASES)
    gain = np.full(CASES, 0.01)
    gain[:4] = -0.16  # the ranks say better, the mean may be worse
    values = {BASELINE: base, SWIN: base + gain + np.linspace(0, 0.001, CASES)}
    text = text_of(tmp_path / "one", score_table(values), options=Options(resamples=500, margins={}))
    given = report_input(tmp_path / "two", score_table(values), options=Options(resamples=500, margins={}))
    row = compute(given).comparisons.iloc[0]
    assert row["p_holm"] < 0.05
    assert row["mean_low"] < 0 < row["mean_high"]
    why = "the signed-rank test shows a difference, but the mean does not point the same way"
    assert (why if row["mean_difference"] < 0 else "by ranks; the interval of the mean reaches zero") in text


@pytest.mark.parametrize(
    ("word", "low", "high", "said"),
    [
        (Verdict.BETTER, 0.01, 0.03, ""),
        (Verdict.BETTER, -0.01, 0.03, "the interval of the mean reaches zero"),
        (Verdict.UNDECIDED, 0.001, 0.05, "does not reach zero"),
        (Verdict.UNDECIDED, -0.01, 0.05, ""),
        (Verdict.UNDECIDED, -0.01, 0.01, "lies within the margin"),
        (Verdict.EQUIVALENT, -0.01, 0.01, ""),
        (Verdict.EQUIVALENT, -0.01, 0.021, "reaches beyond the margin"),
        (Verdict.UNDECIDED, float("nan"), float("nan"), ""),
    ],
)
def test_why_a_verdict_and_its_interval_differ(word: Verdict, low: float, high: float, said: str) -> None:
    why = beside_interval(word, low, high, 0.02)
    assert said in why
    assert bool(said) == bool(why)


def test_test_sets_get_a_sentence_of_their_own(tmp_path: Path) -> None:
    values = dice_values()
    short = {model: own[:12] for model, own in values.items()}
    text = text_of(tmp_path, pd.concat([score_table(short, where="Kerpape"), score_table(values)]))
    assert f"On Kerpape: {SWIN} against {BASELINE} +" in text
    assert "n = 12): better." in text


def test_the_running_median_splits_cases_into_equal_bins() -> None:
    volumes, values = np.arange(1.0, 41.0)[::-1], np.arange(40.0)
    assert running_median(volumes, values) == [(5.5, 34.5), (15.5, 24.5), (25.5, 14.5), (35.5, 4.5)]
    assert running_median(volumes[:29], values[:29]) == []


def test_equal_input_gives_equal_numbers_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    scores = score_table(dice_values(20))
    first = compute(report_input(tmp_path / "a", scores, options=FEW)).comparisons
    mixed = pd.concat(
        [scores[scores["model"] == BASELINE].sample(frac=1, random_state=1), scores[scores["model"] != BASELINE]]
    )
    again = compute(report_input(tmp_path / "b", mixed, options=FEW)).comparisons
    pd.testing.assert_frame_equal(first, again)
