"""The table of scores on disk."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics.scores_table import COLUMNS, read_scores, write_scores

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)
numbers = st.one_of(st.floats(allow_infinity=False), st.just(math.nan))


def table(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            *(names, names, st.one_of(st.none(), st.integers(0, 9)), names, names, names),
            *(st.floats(0, 1e4), names, numbers),
        ),
        max_size=6,
    )
)
def test_what_is_written_is_read_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]) -> None:
    path = tmp_path_factory.mktemp("table") / "scores.csv"
    write_scores(table(rows), path)
    pd.testing.assert_frame_equal(read_scores(path), table(rows), check_exact=True)


@pytest.mark.parametrize("name", ["NA", "nan", "None", "001", "1e5", "", 'a "b", c'])
def test_a_case_may_be_called_anything(name: str, tmp_path: Path) -> None:
    write_scores(table([(name, name, None, name, name, name, 1.0, "dice", 0.5)]), tmp_path / "scores.csv")
    row = read_scores(tmp_path / "scores.csv").iloc[0]
    assert [row[column] for column in ("model", "set", "case", "subject", "site")] == [name] * 5
    assert row["fold"] is pd.NA


def test_parquet_holds_the_same_table(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    scores = table([("unet", "cross-validation", 3, "a", "a", "", 0.1 + 0.2, "dice", math.nan)])
    write_scores(scores, tmp_path / "scores.csv")
    pd.testing.assert_frame_equal(read_scores(tmp_path / "scores.parquet"), scores, check_exact=True)


def test_writing_leaves_no_other_file_and_a_failed_one_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.csv"
    write_scores(table([]), path)
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write_scores(table([]).drop(columns="value"), path)
    assert path.read_bytes() == before
    assert {file.suffix for file in path.parent.iterdir()} <= {".csv", ".parquet"}


@pytest.mark.parametrize("content", [None, "", "model,set\nunet,test\n", ",".join(COLUMNS) + "\na,b,c,d,e,f,g,h,i\n"])
def test_what_is_not_a_table_of_scores_is_named(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ComparisonError, match=r"not a table of scores: .*scores\.csv") as error:
        read_scores(path)
    assert error.value.code == "BAD_SCORES"
