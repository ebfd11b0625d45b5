"""Training curves: a panel a term and one for the total, and a plain word about a broken table."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from src.core.errors import InputError
from src.figures import training
from src.figures.base import new_figure
from src.figures.training import plot_history
from tests.reporting.runs import history


@pytest.mark.parametrize(
    ("terms", "panels"), [(("a", "b"), (3, 1)), (("a", "b", "c"), (2, 2)), (("a", "b", "c", "d"), (3, 2))]
)
def test_panels(terms: tuple[str, ...], panels: tuple[int, int], tmp_path: Path) -> None:
    history(tmp_path, terms)
    plot_history(tmp_path / "train.csv", {"test": tmp_path / "test.csv"}, terms, "title", tmp_path / "a.png")
    width, height = Image.open(tmp_path / "a.png").size
    assert (round(width / 352), round(height / 297)) == panels


def test_train_is_smoothed_and_what_is_measured_has_markers(tmp_path: Path) -> None:
    history(tmp_path, ("a",))
    _, axes = new_figure()
    train, test = pd.read_csv(tmp_path / "train.csv"), pd.read_csv(tmp_path / "test.csv")
    validation = test.iloc[1:].assign(a=9.0)
    training._draw_panel(axes[0, 0], "a", train, {"test": test, "validation": validation}, "#000000")
    raw, smooth, tested, validated = axes[0, 0].lines
    assert raw.get_alpha() < 0.5
    assert pd.Series(smooth.get_ydata()).diff().std() < pd.Series(raw.get_ydata()).diff().std()
    for line, name, frame in ((tested, "test", test), (validated, "validation", validation)):
        assert list(line.get_xdata()) == list(frame["iteration"])
        assert list(line.get_ydata()) == list(frame["a"])
        assert line.get_label() == name
    assert {tested.get_marker(), validated.get_marker()} == {"o", "^"}
    assert axes[0, 0].get_ylim()[1] > 9


def test_a_term_that_was_not_measured_is_drawn_for_training_alone(tmp_path: Path) -> None:
    history(tmp_path, ("a",))
    _, axes = new_figure()
    train, test = pd.read_csv(tmp_path / "train.csv"), pd.read_csv(tmp_path / "test.csv")
    training._draw_panel(axes[0, 0], "a", train, {"test": test[["iteration"]]}, "#000000")
    assert len(axes[0, 0].lines) == 2


def test_without_test_losses_and_with_one_row(tmp_path: Path) -> None:
    pd.DataFrame({"iteration": [1], "a": [0.5], "total": [0.5]}).to_csv(tmp_path / "train.csv", index=False)
    plot_history(tmp_path / "train.csv", {}, {"a": "loss"}, "", tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    history(tmp_path, ("a",))
    with pytest.raises(InputError, match=r"train\.csv: expected .*'?b"):
        plot_history(tmp_path / "train.csv", {}, ("a", "b"), "", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
