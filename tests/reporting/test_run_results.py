"""The reader of metrics and plots: what is missing is named, file and key."""

from pathlib import Path

import pytest

from src.core.errors import InputError
from tests.reporting.runs import metrics, write_run


def test_values_and_optional_values(tmp_path: Path) -> None:
    results = write_run(tmp_path, metrics(evaluate__unannotated=None))
    assert results.value("rpn", "recall", "100") == 0.74
    assert results.value("evaluate", "unannotated") is None
    assert results.maybe("evaluate", "unannotated", "class") is None
    assert results.maybe("evaluate", "nothing", "of", "the", "kind") is None


def test_a_missing_key_is_named_with_its_file(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    with pytest.raises(InputError, match=r"metrics/rpn\.json: expected the key 'recall\.7'.*1000"):
        results.value("rpn", "recall", "7")
    with pytest.raises(InputError, match=r"metrics/evaluate\.json: expected the key 'by_class\.person\.color'"):
        results.value("evaluate", "by_class")["person"]["color"]
    with pytest.raises(InputError, match=r"rpn\.json: expected the key 'layers\.0\.size'"):
        results.value("rpn", "layers")[0]["size"]


def test_a_key_below_a_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rpn\.json: expected an entry with the key 'x', found 0\.912"):
        write_run(tmp_path).value("rpn", "balanced_accuracy", "x")


def test_missing_and_broken_files(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    with pytest.raises(InputError, match=r"metrics/other\.json: no such file"):
        results.value("other", "key")
    (tmp_path / "metrics/features.json").write_text('{"images": ')
    with pytest.raises(InputError, match=r"features\.json: expected JSON"):
        results.value("features", "images")
    with pytest.raises(InputError, match=r"rpn/other\.png: no such file"):
        results.plot("rpn/other.png")
    (tmp_path / "plots/rpn/recall.csv").write_text("")
    with pytest.raises(InputError, match=r"recall\.csv: expected a table with rows, found none"):
        results.table("rpn/recall")
    with pytest.raises(InputError, match=r"train\.csv: expected the column 'color'"):
        results.columns("rpn/train", results.table("rpn/train"), "color")


def test_pictures_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    assert [path.name for path in results.pictures("predict")] == ["street.png"]
    assert results.pictures("elsewhere") == []
