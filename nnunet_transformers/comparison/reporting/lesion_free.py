"""Cases whose reference holds no lesion: a prediction of them is empty or a false alarm, and its Dice is 1 or 0."""

from __future__ import annotations

from nnunet_transformers.common.words import counted
from nnunet_transformers.comparison.reporting.formatting import millilitres
from nnunet_transformers.comparison.reporting.views import SetView


def predictions_without_a_lesion(view: SetView) -> str:
    """What the models make of the cases of a set without a lesion, in a sentence; nothing where there are none."""
    scores = view.of(view.numbers.scores)
    of_set = scores[scores["reference_ml"] == 0]
    dice = of_set[of_set["metric"] == "dice"]
    if dice.empty:
        return ""
    volumes = of_set[of_set["metric"] == "volume_difference_ml"].groupby("model")["value"].max()
    parts = []
    for model in view.given.models:
        own = dice.loc[dice["model"] == model, "value"]
        if len(own):
            most = volumes.get(model, 0.0)
            size = f" (up to {millilitres(most)} ml)" if most > 0 else ""
            parts.append(f"{model} {int((own < 1).sum())} of {len(own)}{size}")
    cases = dice["case"].nunique()
    return (
        f"{counted(cases, 'reference')} of {view.name} {'holds' if cases == 1 else 'hold'} no lesion; a lesion is "
        f"predicted there by {', '.join(parts)}."
    )
