"""The page as a whole: one file, all 18 tasks, nothing from the network, every name escaped, the truth in any case."""

import dataclasses
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from src.core.errors import InputError
from src.core.params_file import load_params
from src.reporting import loss_curves
from src.reporting.loss_curves import HISTORIES, draw_charts
from src.reporting.page import ANSWERS, TEMPLATES, build_page, inline
from src.reporting.run_results import RunResults
from src.reporting.tasks import TASKS
from tests.reporting.runs import (
    METRICS,
    metrics,
    picture,
    training_params,
    validation_metrics,
    with_params,
    write_metrics,
    write_run,
)

HOSTILE = '<script>alert("x")</script>&\'.jpg'
SCRIPTS = 3  # the page's, the explorer's and its data
VOID = {"meta", "img", "link", "br", "input"}


class Reader(HTMLParser):
    """Checks that tags nest, and gathers what the tests ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(tmp_path: Path, content: dict[str, Any] | None = None, **options: Any) -> str:
    results = write_run(tmp_path, content, **options)
    return built(results, tmp_path / "report/index.html")


def built(results: RunResults, path: Path) -> str:
    """The page of a run, as it stands in the file."""
    build_page(results, results.value("summary"), results.value("provenance"), path)
    return path.read_text(encoding="utf-8")


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def test_one_file_with_all_tasks(tmp_path: Path) -> None:
    html = page(tmp_path)
    reader = read(html)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [f"task-{number}" in ids for number in range(1, 19)] == [True] * 18
    links = [attributes["href"] or "" for tag, attributes in reader.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= set(ids)
    files = {link for link in links if not link.startswith("#")}
    assert files == {f"../metrics/{stage}.json" for stage in (*METRICS, "summary", "provenance")}
    assert sorted(ANSWERS) == sorted(TASKS) == list(range(1, 19))


def test_nothing_comes_from_the_network(tmp_path: Path) -> None:
    html = page(tmp_path)
    reader = read(html)
    sources = [attributes["src"] for _, attributes in reader.tags if "src" in attributes]
    assert sources
    assert all((source or "").startswith("data:image/png;base64,") for source in sources)
    assert len([tag for tag, _ in reader.tags if tag == "script"]) == SCRIPTS
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|import\(", html)


def test_numbers_lead_to_the_key_that_they_come_from(tmp_path: Path) -> None:
    """Made to differ, each entry of the metrics that a table shows is shown with a link to its own place."""
    html = page(tmp_path)
    links = re.findall(r'<a class="from" href="#([^"]+)" title="([^"]+)">([^<]*)</a>', html)
    assert len(links) > 150
    entries = dict(re.findall(r'<div id="([^"]+)" tabindex="-1"><dt>[^<]*</dt><dd>([^<]*)</dd>', html))
    for anchor, title, text in links:
        file, _, key = title.partition(": ")
        assert anchor == f"{Path(file).stem}.{key}"
        content = json.loads(entries[anchor])
        shown = float(text.replace("\u202f", "").replace("\u2212", "-").rstrip("%"))
        known = content if isinstance(content, list) else [content]
        digits = len(text.partition(".")[2].rstrip("%"))
        scale = 100 if text.endswith("%") else 1
        assert any(abs(scale * one - shown) <= 0.51 * 10**-digits for one in flat(known)), (title, text, content)
    titles = {title for _, title, _ in links}
    assert {"metrics/summary.json: box_ap50", "metrics/rpn.json: layers.1.parameters"} <= titles
    assert "metrics/evaluate.json: by_class.person.mask_ap75" in titles


def flat(values: list[Any]) -> list[float]:
    return [one for value in values for one in (flat(value) if isinstance(value, list) else [value])]


def test_no_link_stands_in_an_attribute(tmp_path: Path) -> None:
    for _, attributes in read(page(tmp_path)).tags:
        assert not any("<a " in (value or "") for value in attributes.values())


def test_landmarks_and_headings(tmp_path: Path) -> None:
    """One heading of the first level, no level left out, and what a page's parts are for said in its elements."""
    tags = [tag for tag, _ in read(page(tmp_path)).tags]
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert [tags.count(name) for name in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    assert "th" in tags


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_texts_have_contrast(mode: str) -> None:
    """At least 4.5 to 1, as WCAG 2 asks for in 1.4.3, on the page and on its panels."""
    css = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{([^}]*)\}", css)[:2]
    colors = dict(re.findall(r"--(\w+): (#\w{6})", light if mode == "light" else dark))
    for ground, text in itertools.product(("ground", "panel"), ("ink", "soft", "accent")):
        low, high = sorted(luminance(colors[name]) for name in (ground, text))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ground, text)


def luminance(color: str) -> float:
    """WCAG's relative luminance of `#rrggbb`."""
    values = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_pictures_have_alternatives_sizes_and_captions(tmp_path: Path) -> None:
    reader = read(page(tmp_path))
    pictures = [attributes for tag, attributes in reader.tags if tag == "img"]
    captions = [tag for tag, _ in reader.tags if tag == "figcaption"]
    assert len(pictures) == len(captions) > 18
    assert all(len(attributes["alt"] or "") > 10 for attributes in pictures)
    assert all(attributes["width"] == "32" and attributes["height"] == "24" for attributes in pictures)


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    content = metrics(evaluate__unannotated__image=HOSTILE, prepare__example__name=HOSTILE, backbone__weights=HOSTILE)
    content["evaluate"]["unannotated"]["class"] = "<img src=x onerror=alert(1)>"
    content["evaluate"]["by_class"] = {HOSTILE: content["evaluate"]["by_class"]["person"]}
    results = write_run(tmp_path, content)
    picture(tmp_path / "plots/predict/<b>&\"'.png")
    html = built(results, tmp_path / "index.html")
    reader = read(html)
    assert html.count("<script") == SCRIPTS
    assert "onerror=alert(1)&gt;" in html
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    assert HOSTILE in "".join(reader.text)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Places of all fractions below `value`: what a stage may have to write as null."""
    if isinstance(value, dict):
        return [place for key, item in value.items() for place in leaves(item, (*path, key))]
    return [path] if isinstance(value, float) else []


OPTIONAL = [place for stage in ("anchors", "rpn", "backbone", "evaluate") for place in leaves(METRICS[stage], (stage,))]


@pytest.mark.parametrize("chunk", range(4))
def test_undefined_numbers_are_told_as_such(chunk: int, tmp_path: Path) -> None:
    """Each measured fraction, made null, still gives a whole page without a Python word in it."""
    whole = write_run(tmp_path)
    numbers, measured_on = whole.value("summary"), whole.value("provenance")
    for place in OPTIONAL[chunk::4]:
        content = metrics()
        entry = content
        for key in place[:-1]:
            entry = entry[key]
        entry[place[-1]] = None
        write_metrics(tmp_path, content)
        results = RunResults(tmp_path, whole.params, whole.charts, whole.seconds)
        build_page(results, numbers, measured_on, tmp_path / "index.html")
        prose = "".join(read((tmp_path / "index.html").read_text()).text)
        assert not re.search(r"\bNone\b|\bnan\b", prose), place


def test_a_run_in_which_nothing_was_learned(tmp_path: Path) -> None:
    content = metrics(evaluate__unannotated=None, rpn__labeled_positive=0, backbone__proposal_recall=None)
    for stage in ("anchors", "rpn", "backbone", "evaluate"):
        for place in leaves(content[stage], (stage,)):
            entry = content
            for key in place[:-1]:
                entry = entry[key]
            entry[place[-1]] = None
    content["anchors"]["anchors"] = [[221.2, 241.1]]
    prose = "".join(read(page(tmp_path, content)).text)
    assert "AP is undefined" in prose
    assert not re.search(r"\bNone\b|\bnan\b", prose)


def test_gaps_are_filled_with_whole_sentences(tmp_path: Path) -> None:
    check_sentences(page(tmp_path))


def check_sentences(html: str) -> None:
    """Checks that every paragraph ends as one does, and that no gap was left open."""
    paragraphs = re.findall(r"<p>(.*?)</p>", html, flags=re.DOTALL)
    for paragraph in paragraphs:
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", paragraph)).strip()
        assert text.endswith((".", ":", ".)")), text
        assert not re.search(r"\.\.| ,| \.|:\.", text), text
        assert not re.search(r"\bNone\b|\bnan\b", text), text


@pytest.mark.parametrize("scheme", ["none", "end_to_end", "alternating"])
@pytest.mark.parametrize("mask_head", [0, 4])
@pytest.mark.parametrize("box_head", [0, 3])
def test_whatever_was_trained_the_page_is_whole_and_shows_that_alone(
    box_head: int, mask_head: int, scheme: str, tmp_path: Path
) -> None:
    """A training of no epochs leaves empty tables, and no chart; the report neither needs nor draws them."""
    params = training_params(box_head=box_head, mask_head=mask_head, scheme=scheme)
    results = write_run(tmp_path, metrics(features__rois=0) if not box_head + mask_head else None, params)
    trained = {"box_head": bool(box_head), "mask_head": bool(mask_head), "joint": scheme != "none"}
    for chart in results.charts.iterdir():
        chart.unlink()
    for table in (table for stage, was in trained.items() if not was for table in tmp_path.glob(f"plots/{stage}/*")):
        table.write_text("")
    draw_charts(results, results.charts)
    drawn = {path.stem for path in results.charts.iterdir()} & {*trained, "gradients"}
    shown = [stage for stage, was in [*trained.items(), ("gradients", trained["joint"])] if was]
    assert drawn == set(shown)
    html = built(results, tmp_path / "report/index.html")
    check_sentences(html)
    sources = [attributes["src"] for tag, attributes in read(html).tags if tag == "img"]
    assert all(inline(results.charts / f"{stage}.png").source in sources for stage in shown)


def test_joint_training_without_gradients(tmp_path: Path) -> None:
    results = write_run(tmp_path, params=training_params(gradient_interval=0))
    (results.charts / "gradients.png").unlink()
    (tmp_path / "plots/joint/gradients.csv").write_text("")
    draw_charts(results, results.charts)
    assert not (results.charts / "gradients.png").exists()
    check_sentences(built(results, tmp_path / "index.html"))


@pytest.mark.parametrize("name", ["train", "test", "gradients"])
def test_a_missing_table_of_joint_training_is_named(name: str, tmp_path: Path) -> None:
    results = write_run(tmp_path)
    (tmp_path / f"plots/joint/{name}.csv").unlink()
    with pytest.raises(InputError, match=rf"plots/joint/{name}\.csv: no such file"):
        built(results, tmp_path / "index.html")


def test_other_settings_than_the_default_ones_are_named_at_the_head(tmp_path: Path) -> None:
    tags = [attributes.get("class") for _, attributes in read(page(tmp_path)).tags]
    assert "banner" not in tags
    params = with_params(load_params(), "report", settings=HOSTILE)
    html = page(tmp_path, params=params)
    reader = read(html)
    assert [attributes["role"] for _, attributes in reader.tags if attributes.get("class") == "banner"] == ["note"]
    assert f"settings/{HOSTILE}.yaml" in "".join(reader.text)
    assert html.count("<script") == SCRIPTS
    assert html.index('class="banner"') < html.index('id="results"')


def test_a_run_measured_on_validation_images_says_so_at_the_head(tmp_path: Path) -> None:
    params = with_params(load_params(), "evaluate", split="validation")
    html = page(tmp_path, validation_metrics(), params=params)
    text = "".join(read(html).text)
    assert (
        html.index('class="banner"') < html.index("validation part of the training images") < html.index('id="results"')
    )
    assert "trained on 192 images and measured on 48 others" in text
    assert "Average precision on 48 validation images." in text


NEEDLESS: dict[str, set[str]] = {  # what a page is whole without, the headline being in files of its own
    "ingest": {
        *("train_images", "test_images", "validation_images", "objects", "objects_per_image"),
        *("unannotated_objects", "crowd_objects"),
    },
    "prepare": set(),
    "anchors": {"mode_counts"},
    "rpn": {"recall", "anchor_counts", "conditions"},
    "backbone": {"normalization", "compared", "example", "conditions"},
    "features": set(),
    "evaluate": {"mask_iou_coverage", "proposals", "proposal_recall", "detections", "conditions"},
}


@pytest.mark.parametrize("stage", NEEDLESS)
def test_each_missing_fact_names_file_and_key(stage: str, tmp_path: Path) -> None:
    for key in METRICS[stage]:
        content = metrics()
        del content[stage][key]
        if key in NEEDLESS[stage]:
            read(page(tmp_path, content))
            continue
        with pytest.raises(InputError, match=rf"metrics/{stage}\.json: expected the key '{key}'"):
            page(tmp_path, content)


def test_missing_figures_are_named(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    (tmp_path / "plots/evaluate_backbone/crops.png").unlink()
    with pytest.raises(InputError, match=r"plots/evaluate_backbone/crops\.png: no such file"):
        built(results, tmp_path / "index.html")
    assert not (tmp_path / "index.html").exists()


def test_only_pngs_are_inlined(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"<svg onload='alert(1)'>")
    with pytest.raises(InputError, match=r"a\.png: expected a PNG"):
        inline(tmp_path / "a.png")


def test_a_run_without_fine_tuning(tmp_path: Path) -> None:
    results = write_run(tmp_path, params=with_params(load_params(), "backbone", epochs=0))
    (results.charts / "backbone.png").unlink()
    (tmp_path / "plots/backbone/train.csv").unlink()
    draw_charts(results, results.charts)
    assert "keeps the weights" in built(results, tmp_path / "index.html")


def test_charts(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    draw_charts(results, results.charts)
    assert all(inline(path).width > 300 for path in results.charts.iterdir())


def test_charts_show_validation_losses_where_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = write_run(tmp_path)
    shutil.copy(tmp_path / "plots/joint/test.csv", tmp_path / "plots/joint/validation.csv")
    drawn: dict[str, set[str]] = {}

    def noted(train: Path, measured: dict[str, Path], *arguments: Any) -> None:
        assert measured == {name: train.with_name(f"{name}.csv") for name in measured}
        drawn[train.parent.name] = set(measured)

    monkeypatch.setattr(loss_curves, "plot_history", noted)
    draw_charts(results, results.charts)
    expected = {stage: {"test"} for stage in HISTORIES} | {"backbone": set(), "joint": {"test", "validation"}}
    assert drawn == expected


@pytest.mark.parametrize("stage", HISTORIES)
def test_charts_show_every_term_that_the_stage_weighs(stage: str) -> None:
    params = load_params()
    section = params.box_head if stage == "mask_head" else getattr(params, stage)  # which share their weights
    terms = [field.name for field in dataclasses.fields(section.loss_weights)]
    assert list(HISTORIES[stage][0]) == terms + ["mask"] * (stage == "mask_head")
