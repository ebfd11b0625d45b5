"""The explorer in a real browser: counts, keys, links, names; on a laptop, on a phone, in the dark, on paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.core.files import read_json
from src.evaluation.funnel import FOUND, STEPS
from src.evaluation.paired import count_objects, groups
from src.evaluation.rle import decode_masks
from src.reporting.page import build_page
from src.structures.classes import Classes
from tests.evaluation.scenes import HEIGHT, WIDTH, found, truth
from tests.reporting.conftest import LAPTOP, PHONE, skip_without_browser
from tests.reporting.explorer_files import CLASSES, THRESHOLD, analysis, measured, scene, write_explorer
from tests.reporting.runs import metrics, write_run

skip_without_browser()

OPEN = Callable[..., Any]
KINDS = ("correct", "duplicate", "classification", "localization", "both", "background", "ignored")
HOSTILE = ("</script><img src=x onerror=alert(1)>", "\"quoted\" 'twice' & `so` ${x} {{ y }}", "\u732b \U0001f408 <!--")
TRUTH, ANALYSES = scene(seed=5, images=9)
OWN = [("own.png", found([(5, 5, 30, 30)], [2], [0.9])), ("other.png", found())]


def build(root: Path, *content: Any, **options: Any) -> Path:
    """The page of a made run, its metrics those of these images."""
    images = content or (TRUTH, ANALYSES)
    numbers = measured(*images)
    results = write_run(root, metrics(evaluate__errors=numbers["errors"], evaluate__funnel=numbers["funnel"]))
    write_explorer(root / "plots", *images, **options)
    build_page(results, results.value("summary"), results.value("provenance"), root / "index.html")
    return root / "index.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("run"), own=OWN)


def counts(page: Any, group: str) -> dict[str, int]:
    """What the buttons of a group say, by their values."""
    rows = page.locator(f"#explorer-{group}s .chip").evaluate_all(
        "(all) => all.map((one) => [one.querySelector('input').value, Number(one.querySelector('b').textContent)])"
    )
    return dict(rows)


def set_threshold(page: Any, value: float) -> None:
    """Moves the slider by its keys, as a person may."""
    slider = page.get_by_role("slider", name="Score at least")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(round(100 * value)):
        page.keyboard.press("ArrowRight")
    assert page.locator("#explorer-threshold").inner_text() == f"{value:.2f}"


def choose(page: Any, group: str, value: str) -> None:
    page.locator(f"input[name={group}][value='{value}']").check()


def listed(page: Any) -> list[int]:
    """Numbers of the images that the choices leave."""
    return [
        int(value) for value in page.locator("#explorer-images option").evaluate_all("(o) => o.map((x) => x.value)")
    ]


def image(page: Any) -> int:
    return int(page.locator("#explorer-images").input_value())


def check_counts(page: Any, expected: dict[str, Any]) -> None:
    errors, funnel, kinds, fates = expected["errors"], expected["funnel"], counts(page, "kind"), counts(page, "fate")
    assert {kind: kinds[kind] for kind in KINDS} == {kind: errors[kind] for kind in KINDS}
    assert (kinds[""], kinds["not"]) == (sum(kinds[k] for k in KINDS), sum(kinds[k] for k in KINDS if k != "correct"))
    assert {step: fates[step] for step in STEPS} == funnel["lost_at"]
    assert (fates[""], fates[FOUND], fates["not"]) == (funnel["objects"], funnel["found"], funnel["missed"])
    words = page.locator("#explorer-counts").inner_text()
    assert f"{funnel['found']} of {funnel['objects']} object{'s' * (funnel['objects'] != 1)} found" in words
    assert f"{errors['missed']} object" in words.split("; ")[-1]


def test_counts_are_those_of_the_metrics(open_page: OPEN, report: Path) -> None:
    page = open_page(report)
    assert page.locator("#explorer-threshold").inner_text() == f"{THRESHOLD:.2f}"
    check_counts(page, read_json(report.with_name("metrics") / "evaluate.json"))
    for threshold in (0.0, 0.23, 0.61, 0.9, 1.0):
        set_threshold(page, threshold)
        check_counts(page, measured(TRUTH, ANALYSES, threshold))


def test_scores_on_the_threshold_are_cut_as_they_are_measured(open_page: OPEN, tmp_path: Path) -> None:
    """0.3 as float32 is above 0.3 as a double, 0.7 below."""
    images = [truth([(5, 5, 25, 25)], [1])], [analysis("a", found([(5, 5, 25, 25)] * 2, [1, 1], [0.7, 0.3]), ["box"])]
    page = open_page(build(tmp_path, *images))
    for threshold in (0.29, 0.3, 0.31, 0.69, 0.7, 0.71):
        set_threshold(page, threshold)
        check_counts(page, measured(*images, threshold))


def test_filters_count_the_objects_that_the_metrics_count(open_page: OPEN, report: Path) -> None:
    page = open_page(report)
    for group in groups(CLASSES):
        label = str(group.labels[0]) if len(group.labels) == 1 else ""
        page.select_option("[name=label]", label)
        page.select_option("[name=size]", group.name if group.areas else "")
        assert counts(page, "fate")[""] == count_objects(TRUTH, group), group.name


def reference(fate: str, kind: str) -> list[int]:
    """Images that have an object of this fate and a detection of this kind, by what is measured of each alone."""
    numbers = []
    for number, pair in enumerate(zip(TRUTH, ANALYSES, strict=True), start=1):
        one = measured([pair[0]], [pair[1]])
        objects = {**one["funnel"]["lost_at"], FOUND: one["funnel"]["found"], "not": one["funnel"]["missed"], "": 1}
        kinds = {**one["errors"], "not": sum(one["errors"][k] for k in KINDS if k != "correct"), "": 1}
        if objects[fate] and kinds[kind]:
            numbers.append(number)
    return numbers


def test_choices_leave_the_images_that_have_both(open_page: OPEN, report: Path) -> None:
    page = open_page(report)
    for fate in ("", FOUND, "not", *STEPS):
        for kind in ("", "correct", "not", "background", "localization"):
            choose(page, "fate", fate)
            choose(page, "kind", kind)
            left = reference(fate, kind)
            assert page.locator("#explorer-counts").inner_text().startswith(f"{len(left)} of {len(TRUTH)} images")
            if left:
                assert listed(page) == left
                assert image(page) in left
    page.get_by_role("button", name="Reset").click()
    assert listed(page) == [*range(1, len(TRUTH) + 1)]


def test_arrow_keys_go_through_the_images_that_are_left(open_page: OPEN, report: Path) -> None:
    page = open_page(report, "#image-1")
    choose(page, "fate", FOUND)
    left = listed(page)
    assert len(left) > 2
    page.get_by_role("button", name="Next image").focus()
    seen = [image(page)]
    for _ in left:
        page.keyboard.press("ArrowRight")
        seen.append(image(page))
        assert page.url.endswith(f"#image-{seen[-1]}")
    assert sorted(seen[:-1]) == left
    assert seen[0] == seen[-1]
    page.keyboard.press("ArrowLeft")
    assert image(page) == seen[-2]


def test_arrow_keys_stay_with_the_control_that_has_the_focus(open_page: OPEN, report: Path) -> None:
    page = open_page(report, "#image-3")
    page.get_by_role("slider", name="Score at least").focus()
    page.keyboard.press("ArrowRight")
    assert (image(page), page.locator("#explorer-threshold").inner_text()) == (3, "0.51")
    page.locator("a.skip").focus()
    page.keyboard.press("ArrowRight")
    assert image(page) == 3


def test_all_is_reached_by_tab_in_the_order_of_the_page(open_page: OPEN, report: Path) -> None:
    page = open_page(report, f"#image-{reference(FOUND, 'correct')[0]}")
    page.get_by_role("slider", name="Score at least").focus()
    names = []
    for _ in range(17):
        names.append(page.evaluate("document.activeElement.name || document.activeElement.id || 'item'"))
        page.keyboard.press("Tab")
    controls = ["score", "label", "size", "set", "explorer-reset", "fate", "kind", "explorer-previous"]
    controls += ["explorer-images", "explorer-next", "explorer-link", "truth", "found", "masks", "before", "proposals"]
    assert names == [*controls, "item"]


def test_an_item_of_the_list_is_brought_out_by_the_keyboard(open_page: OPEN, report: Path) -> None:
    page = open_page(report, f"#image-{reference(FOUND, 'correct')[0]}")
    item = page.locator("#explorer-detections button").first
    item.focus()
    page.keyboard.press("Enter")
    assert item.get_attribute("aria-pressed") == "true"
    assert page.locator("#explorer-boxes .found:not(.dim)").count() == 1
    assert page.evaluate("document.activeElement.ariaPressed") == "true"
    page.keyboard.press("Enter")
    assert page.locator("#explorer-boxes .dim").count() == 0
    page.keyboard.press("ArrowRight")  # its list is gone, the focus is not
    assert page.evaluate("document.activeElement.id") == "explorer-frame"


def test_proposals_and_boxes_before_regression_are_drawn_on_demand(open_page: OPEN, tmp_path: Path) -> None:
    ours = found([(5, 5, 25, 25)], [1], [0.8], proposals=[(4, 6, 20, 30)])
    page = open_page(build(tmp_path, [truth([(5, 5, 25, 25)], [1])], [analysis("a", ours, ["box"])]))
    assert page.locator("#explorer-boxes :is(.proposal, .before)").count() == 0
    page.get_by_role("checkbox", name="best proposals").check()
    page.get_by_role("checkbox", name="boxes before regression").check()
    assert page.locator("#explorer-boxes .proposal").count() == 20
    box = page.locator("#explorer-boxes .before")
    assert [box.get_attribute(name) for name in ("x", "y", "width", "height")] == ["4", "6", "16", "24"]


def test_masks_are_drawn_pixel_by_pixel(open_page: OPEN, report: Path) -> None:
    """What lies in the canvas against the run lengths' own decoder."""
    for number, one in enumerate(ANALYSES, start=1):
        page = open_page(report, f"#image-{number}")
        page.get_by_role("checkbox", name="objects").uncheck()
        pixels = page.locator("#explorer-frame canvas").evaluate(
            "(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 == 3)"
        )
        ours = one.found["clip"].keep(one.found["clip"].scores >= THRESHOLD)
        masks = decode_masks(ours.masks or [], HEIGHT, WIDTH)
        assert np.array_equal(np.reshape(pixels, (HEIGHT, WIDTH)) > 0, masks.any(0))


def test_a_link_opens_its_image_whatever_was_chosen(open_page: OPEN, report: Path) -> None:
    page = open_page(report, "#image-7")
    assert image(page) == 7
    assert page.locator("#explorer-counts").bounding_box()["y"] < LAPTOP["height"] / 2
    choose(page, "fate", FOUND)
    hidden = next(number for number in range(1, len(TRUTH) + 1) if number not in listed(page))
    page.evaluate(f"location.hash = '#image-{hidden}'")
    page.wait_for_function(f"document.querySelector('#explorer-images').value === '{hidden}'")
    assert len(listed(page)) == len(TRUTH)
    for nonsense in ("#image-0", "#image-999", "#picture-9", "#task-3"):
        page.evaluate(f"location.hash = '{nonsense}'")
        assert image(page) == hidden


def test_what_is_found_is_said(open_page: OPEN, tmp_path: Path) -> None:
    boxes = [(5, 5, 25, 25), (30, 10, 45, 30)]
    ours = found([boxes[0], (46, 1, 58, 9)], [1, 3], [0.9, 0.61])
    page = open_page(build(tmp_path, [truth(boxes, [1, 2])], [analysis("a", ours, ["box", "suppressed"])]))
    expected = "Image 1: 1 of 2 objects found; lost: person (NMS); 2 detections; wrong: animal 0.61 (nothing there)."
    says = page.locator("#explorer-says")
    assert says.inner_text() == expected
    assert says.get_attribute("aria-live") == "polite"
    picture = page.get_by_role("img", name="Image 1, test/000000")
    assert picture.get_attribute("aria-describedby") == "explorer-says"
    set_threshold(page, 0.95)
    assert (
        says.inner_text() == "Image 1: 0 of 2 objects found; lost: vehicle (box regressor), person (NMS); 0 detections."
    )
    assert "1 of 1 image" in page.get_by_role("region", name="Explorer").get_by_role("status").inner_text()


def test_own_pictures_are_in_it(open_page: OPEN, report: Path) -> None:
    page = open_page(report, "#picture-1")
    assert page.locator("[name=set]").input_value() == "picture"
    assert page.locator("#explorer-says").inner_text() == "Picture 1: 1 detection."
    assert not page.locator("#explorer-choices").is_visible()
    assert page.locator("#explorer-counts").inner_text() == "2 of 2 pictures; 1 detection."
    page.get_by_role("button", name="Next image").click()
    assert page.url.endswith("#picture-2")
    page.select_option("[name=set]", "image")
    assert (image(page), len(listed(page))) == (1, len(TRUTH))


def test_hostile_names_are_shown_as_they_are(open_page: OPEN, tmp_path: Path) -> None:
    boxes = [(2, 2, 18, 18), (20, 2, 36, 18), (40, 2, 56, 18)]
    picture = dataclasses.replace(truth(boxes, [1, 2, 3]), name=HOSTILE[0])
    one = analysis("a", found(boxes, [1, 2, 3], [0.9, 0.8, 0.7]), ["box"] * 3)
    own = [(f"\udce9{HOSTILE[0]}.png", found(boxes[:1], [1], [0.9]))]
    page = open_page(build(tmp_path, [picture], [one], classes=Classes(HOSTILE), own=own))
    names = page.locator("#explorer-objects button span:not(.swatch)").all_text_contents()
    assert names == list(HOSTILE)
    assert page.locator("#explorer-images option").first.text_content() == f"1: {HOSTILE[0]} (3 of 3 found)"
    assert page.locator("img[onerror]").count() == 0


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_without_detections_objects_or_images(count: int, open_page: OPEN, tmp_path: Path) -> None:
    images = ([truth()] * count, [analysis("a", found(), [])] * count)
    results = write_run(tmp_path)
    write_explorer(tmp_path / "plots", *images)
    build_page(results, results.value("summary"), results.value("provenance"), tmp_path / "index.html")
    page = open_page(tmp_path / "index.html")
    assert page.locator("#explorer-counts").inner_text().startswith(f"{count} of {count} image")
    page.get_by_role("checkbox", name="masks").uncheck()
    page.get_by_role("button", name="Next image").click()
    assert not page.locator("#explorer-sets").is_visible()


def test_many_classes(open_page: OPEN, tmp_path: Path) -> None:
    classes = Classes(tuple(f"kind {number} of a thing with a long name" for number in range(1, 1204)))
    picture = truth([(2, 2, 18, 18)], [1203])
    one = analysis("a", found([(2, 2, 18, 18)], [1203], [0.9]), ["box"])
    page = open_page(build(tmp_path, [picture], [one], classes=classes), viewport=PHONE)
    page.select_option("[name=label]", "1203")
    assert counts(page, "fate")[FOUND] == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_what_does_not_fit_the_page_is_told(open_page: OPEN, tmp_path: Path) -> None:
    page = open_page(build(tmp_path, room=9_000))
    shown = len(listed(page))
    assert 0 < shown < len(TRUTH)
    assert f"{shown} of {len(TRUTH)} test images fit this page." in page.locator("#explorer").inner_text()
    check_counts(page, measured(TRUTH[:shown], ANALYSES[:shown]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, LAPTOP, {"width": 320, "height": 640}])
def test_no_width_scrolls_sideways(viewport: dict[str, int], scheme: str, open_page: OPEN, report: Path) -> None:
    page = open_page(report, "#image-2", viewport, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    frame = page.locator("#explorer-frame").bounding_box()
    assert frame["x"] >= 0
    assert frame["x"] + frame["width"] <= viewport["width"]
    assert frame["width"] / frame["height"] == pytest.approx(WIDTH / HEIGHT, rel=0.01)
    ground = page.evaluate("getComputedStyle(document.querySelector('#explorer-reset')).backgroundColor")
    assert (sum(int(value) for value in ground[4:-1].split(",")) < 384) == (scheme == "dark")


def test_paper_has_the_figures_and_no_explorer(open_page: OPEN, report: Path) -> None:
    page = open_page(report)
    assert page.locator("#explorer").is_visible()
    page.emulate_media(media="print")
    assert not page.locator("#explorer").is_visible()
    assert page.locator("figure img").first.is_visible()


def test_without_scripts_the_page_says_so(open_page: OPEN, report: Path) -> None:
    page = open_page(report, java_script_enabled=False)
    assert page.locator("#explorer noscript").is_visible()
    assert not page.locator("#explorer-form").is_visible()
