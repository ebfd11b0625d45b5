"""The head of the page and the lines in the terminal."""

from pathlib import Path

import pytest

from src.core.errors import InputError
from src.core.params_file import load_params
from src.evaluation.headline import headline_numbers, provenance
from src.reporting import summary
from tests.reporting.runs import metrics, validation_metrics


def test_the_terminal_s_lines_are_the_headline() -> None:
    assert "0.782" in summary.headline(headline_numbers(metrics()), {"rpn": 61.0})


@pytest.mark.parametrize(
    ("images", "source", "said"),
    [(240, "emoji", "trained on 240 images"), (1, "course", "trained on 1 image"), (2, "mine", "80 others: mine.")],
)
def test_the_lead_says_what_was_measured_on_what(images: int, source: str, said: str) -> None:
    assert said in summary.lead(provenance(metrics(ingest__train_images=images, ingest__source=source)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("quick", "This is the quick run: a small canvas, fewer scenes, short trainings."),
        ("photos", "This run was made with settings/photos.yaml over the default settings."),
    ],
)
def test_the_banner_says_which_settings_were_applied(settings: str, said: str) -> None:
    assert summary.banner(settings, "test").startswith(said)


def test_the_banner_of_the_quick_run_says_how_to_make_the_full_one() -> None:
    assert summary.banner("quick", "test").endswith("with lower numbers than the full run (make report).")


def test_the_default_settings_have_no_banner() -> None:
    params = load_params()
    assert summary.banner(params.report.settings, params.evaluate.split) == ""


@pytest.mark.parametrize("settings", ["default", "quick", "photos"])
def test_the_banner_says_that_no_test_image_was_measured(settings: str) -> None:
    """After what it says of the settings, if they are not the default ones."""
    others, told = (summary.banner(settings, split) for split in ("test", "validation"))
    assert told.startswith(f"{others} It is" if others else "It is")
    assert "measured on the validation part of the training images, which no training saw" in told
    assert "validation" not in others


def test_the_lead_counts_the_images_of_the_split_that_was_measured() -> None:
    assert "trained on 192 images and measured on 48 others" in summary.lead(provenance(validation_metrics()))


def test_joint_training_counts_to_the_time_of_all_stages(tmp_path: Path) -> None:
    for stage, seconds in {"mask_head": 100, "joint": 500}.items():
        (tmp_path / f"{stage}.json").write_text(str(seconds))
    numbers = headline_numbers(metrics())
    values = {tile["name"]: tile["value"] for tile in summary.tiles(numbers, summary.read_seconds(tmp_path))}
    assert values["time of all stages"] == "10.0 min"


def test_undefined_numbers_and_unknown_times() -> None:
    numbers = headline_numbers(metrics(rpn__balanced_accuracy=None))
    values = {tile["name"]: tile["value"] for tile in summary.tiles(numbers, {})}
    assert values["RPN accuracy, part (a)"] == "undefined"
    assert values["time of all stages"] == "not known"
    values = {tile["name"]: tile["value"] for tile in summary.tiles(numbers, {"rpn": 60.0, "detect": 40.0})}
    assert values["time of all stages"] == "1.7 min"


def test_seconds_are_read_for_stages_only(tmp_path: Path) -> None:
    (tmp_path / "rpn.json").write_text("12.5")
    (tmp_path / "report.json").write_text("3")
    assert summary.read_seconds(tmp_path) == {"rpn": 12.5}
    assert summary.read_seconds(tmp_path / "none") == {}
    (tmp_path / "rpn.json").write_text('"soon"')
    with pytest.raises(InputError, match=r"rpn\.json: expected a number of seconds"):
        summary.read_seconds(tmp_path)
    with pytest.raises(InputError, match=r"rpn\.json: expected a number of bytes"):
        summary.read_memory(tmp_path)
