"""Cases whose reference holds no lesion: a prediction of them is empty or a false alarm, and its Dice is 1 or 0."""

from __future__ import annotations

from nnunet_transformers.common.words import counted
from nnunet_transformers.comparison.reporting.formatting import millilitres
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.numbers import Numbers


def predictions_without_a_lesion(given: ReportInput, numbers: Numbers, name: str) -> str:
    """What the models make of the cases of a set without a lesion, in a sentence; nothing where there are none."""
    scores = numbers.scores
    of_set = scores[(scores["set"] == name) & (scores["reference_ml"] == 0)]
    dice = of_set[of_set["metric"] == "dice"]
    if dice.empty:
        return ""
    volumes = of_set[of_set["metric"] == "volume_difference_ml"].groupby("model")["value"].max()
    parts = []
    for model in given.models:
        own = dice.loc[dice["model"] == model, "value"]
        if len(own):
            most = volumes.get(model, 0.0)
            size = f" (up to {millilitres(most)} ml)" if most > 0 else ""
            parts.append(f"{model} {int((own < 1).sum())} of {len(own)}{size}")
    cases = dice["case"].nunique()
    return (
        f"{counted(cases, 'reference')} of {name} {'holds' if cases == 1 else 'hold'} no lesion; a lesion is predicted "
        f"there by {', '.join(parts)}."
    )
