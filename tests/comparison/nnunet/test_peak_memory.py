from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.results_folder import UNET, write_model

from nnunet_transformers.comparison.nnunet.peak_memory import FILE, PeakMemory, read_peak_memory, record_peak_memory
from nnunet_transformers.comparison.nnunet.results import read_results
from nnunet_transformers.comparison.nnunet.timing import read_training


def test_the_peak_of_a_process_is_at_least_what_it_holds(tmp_path: Path) -> None:
    held = bytearray(300 * 2**20)
    held[:: 2**12] = b"x" * len(held[:: 2**12])
    record_peak_memory(tmp_path)
    peak = read_peak_memory(tmp_path)
    assert peak is not None
    assert peak.of == "process"
    assert 300 < peak.mib < 50_000


def test_a_resumed_training_keeps_the_higher_peak(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"mib": 1e6, "of": "process"}))
    record_peak_memory(tmp_path)
    assert read_peak_memory(tmp_path) == PeakMemory(1e6, "process")
    (tmp_path / FILE).write_text(json.dumps({"mib": 1.0, "of": "process"}))
    record_peak_memory(tmp_path)
    assert read_peak_memory(tmp_path) != PeakMemory(1.0, "process")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mib": "much", "of": "GPU"}', '{"mib": 3}'])
def test_what_is_no_record_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert read_peak_memory(tmp_path) is None
    assert read_peak_memory(tmp_path / "nowhere") is None


def test_a_model_has_the_highest_peak_of_its_folds(empty: Path) -> None:
    model = write_model(empty, UNET, {0: {"a": 0.9}, 1: {"b": 0.8}})
    for fold, mib in ((0, 900.0), (1, 1100.0)):
        (model / f"fold_{fold}" / FILE).write_text(json.dumps({"mib": mib, "of": "GPU"}))
    assert read_training(read_results(empty).models[0]).memory == PeakMemory(1100.0, "GPU")
