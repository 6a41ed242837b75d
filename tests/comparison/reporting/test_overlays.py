"""Pictures of cases whose files are damaged."""

from __future__ import annotations

from pathlib import Path

from helpers.report_example import BASELINE, SWIN, report_input, score_table
from helpers.results_folder import write_images

from nnunet_transformers.comparison.metrics.images import DataFolders
from nnunet_transformers.comparison.reporting import write_report


def test_an_image_that_was_cut_off_is_named_and_the_report_written(tmp_path: Path) -> None:
    scores = score_table({BASELINE: [0.1, 0.2, 0.3, 0.4, 0.5], SWIN: [0.2, 0.3, 0.4, 0.5, 0.6]})
    raw = tmp_path / "nnUNet_raw" / "Dataset201_Lesions"
    for case in scores["case"].unique():
        write_images(raw, case)
    image = raw / "imagesTr" / "case00_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:-60])
    given = report_input(tmp_path, scores, data=DataFolders(raw, None))
    text = (write_report(given, tmp_path / "out").parent / "report.md").read_text().replace("\\", "")
    assert f"Picture of case00: cannot be read: {image}" in text
