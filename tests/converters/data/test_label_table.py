"""Tables of labels: one label for each picture, or a message with the row."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.data.label_table import read_label_table
from runtimes.errors import UsageError
from tests.irregular import make_irregular


def table(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder / "labels.csv"


def test_rows_with_an_index_are_read_and_others_are_left_out(tmp_path: Path) -> None:
    text = "\ufefffile,label,more\na.png,3\n b.png , 4 ,x\nc.png,dog\nd.png\n\na.png,3\n"
    assert read_label_table(table(tmp_path, text)) == {"a.png": 3, "b.png": 4}


def test_two_labels_for_one_picture_are_an_error(tmp_path: Path) -> None:
    words = r"labels\.csv, row 3: a\.png has two rows, with the labels 3 and 4"
    with pytest.raises(UsageError, match=words):
        read_label_table(table(tmp_path, "file,label\na.png,3\na.png,4\n"))


@pytest.mark.parametrize("digits", [19, 4301, 10_000, 1_000_000])
def test_a_label_of_thousands_of_digits_is_an_error(tmp_path: Path, digits: int) -> None:
    with pytest.raises(
        UsageError, match=r"labels\.csv, row 2: (a label of|.* is not a CSV)|field"
    ) as caught:
        read_label_table(table(tmp_path, f"a.png,1\nb.png,{'9' * digits}\n"))
    assert len(str(caught.value)) < 500


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text() | st.text("0123456789,\n\"'-. a", max_size=60))
def test_any_text_is_a_table_or_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        labels = read_label_table(tmp_path / "labels.csv")
    except UsageError as error:
        assert "labels.csv" in str(error)
    else:
        assert all(isinstance(label, int) for label in labels.values())


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "folder", "nothing"])
@pytest.mark.timeout(10)
def test_a_table_that_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = make_irregular(tmp_path / "labels.csv", kind)
    with pytest.raises(UsageError, match=r"labels: cannot read .*labels\.csv"):
        read_label_table(path)
