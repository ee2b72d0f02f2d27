"""The report and its figures: made-up runs, hostile names, missing parts."""

import base64
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from report_helpers import made_up, report
from safetensors.numpy import save, save_file
from web_browser import browser, needs_browser

from dynagest.card import NetworkCard
from dynagest.errors import RunError, WeightsError
from dynagest.networks.build import create_model, list_models, natural_input
from dynagest.testing.evaluation import Evaluation
from dynagest.testing.figures import (
    BOTTOM,
    HEIGHT,
    Series,
    confusion_png,
    confusion_svg,
    line_chart,
    linear_axis,
    log_axis,
)
from dynagest.testing.history import History, _series
from dynagest.testing.report import duration, write_report

HOSTILE = "<script>alert('x')</script>"


def fill(run: Path, test: Evaluation | None, depth: bool = True, log: bool = True) -> Path:
    """A run folder such as training and testing leave, without weights."""
    run.mkdir(exist_ok=True)
    if test is not None:
        test.write(run / "metrics.json")
        card = NetworkCard(model="tsm_resnet18", classes=test.classes, num_segments=4, size=56, width=8)
        (run / "network.json").write_text(card.model_dump_json())
    (run / "recipe.json").write_text(
        json.dumps({"name": "demo", "lr": 0.02, "flip_labels": None, "scales": [1, 0.875]})
    )
    about = {"command": ["/usr/bin/dynagest", "train", "demo", "--out", "my run"], "packages": {"torch": "2.13.0"}}
    (run / "environment.json").write_text(json.dumps(about))
    if log:
        lines: list[dict] = [{"event": "note", "time": 0.0, "step": 0, "text": "hello"}]
        for epoch in range(1, 4):
            masks = {"local": 0.1 / epoch, "global": 0.2 / epoch} if depth else {"local": None, "global": None}
            part = {"loss": 2.0 / epoch, "cross_entropy": 1.5 / epoch, "top1": 0.2 * epoch, "clips": 10, **masks}
            step = {"event": "train", "time": 60.0 * epoch, "step": epoch, "epoch": float(epoch), "lr": 0.1**epoch}
            lines.append({**step, **part})
            head = {"event": "epoch", "time": 60.0 * epoch, "step": epoch, "epoch": epoch, "best": epoch == 2}
            lines.append({**head, "train": part, "validation": part})
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event": "trai')
    return run


def test_everything_that_a_run_knows_is_shown(tmp_path: Path) -> None:
    classes = tuple(f"gesture {number}" for number in range(20))
    test = made_up(classes, 200, 0.8, unread=2, protocol="paper")
    page = report(fill(tmp_path / "run", test))
    assert f"{100 * test.summary.top1:.1f}" in page.text
    low, high = test.summary.interval
    assert f"95 % interval {100 * low:.1f} to {100 * high:.1f} %; chance is 5.0 %" in page.text
    assert "2 of 202 clips could not be read" in page.text
    assert "/data/set/torn1.avi: truncated" in page.text
    assert len(page.all("svg", "chart")) == 4
    assert len(page.all("svg", "accuracy")) == 1
    assert len(page.all("svg", "matrix")) == 1
    assert "3 epochs in 3 min 0 s, breaks included; the network of epoch 2 was kept" in page.text
    assert "dynagest train demo --out 'my run'" in page.text
    assert "--split test --protocol paper --seed 5" in page.text
    assert "torch 2.13.0" in page.text
    assert "depth decoders removed" in page.text
    assert "all 30 views of a clip" in page.text
    net = create_model("tsm_resnet18", 20, 4, width=8)
    assert f"{sum(parameter.numel() for parameter in net.parameters()):,}" in page.text


@pytest.mark.parametrize("name", list_models())
def test_the_cost_is_that_of_the_network_on_the_card(tmp_path: Path, name: str) -> None:
    """As trained by ``train``: reported before it is tested, at its own size."""
    frames, size = natural_input(name)
    with torch.device("meta"):
        net = create_model(name, 2, frames, width=8, size=size)
    card = NetworkCard(model=name, classes=("a", "b"), num_segments=frames, size=size, width=8)
    (tmp_path / "network.json").write_text(card.model_dump_json())
    parameters = sum(parameter.numel() for parameter in net.parameters())
    assert f"{parameters:,} (depth decoders removed)" in report(tmp_path).text


def test_the_cost_of_c3d_is_the_published_one(tmp_path: Path) -> None:
    classes = tuple(map(str, range(83)))
    card = NetworkCard(model="c3d", classes=classes, num_segments=32, size=112)
    (tmp_path / "network.json").write_text(card.model_dump_json())
    text = report(tmp_path).text
    assert "65,584,339 (depth decoders removed)" in text
    assert "one view of 32 × 112 × 112 71.48 GMAC" in text
    assert "71.70 GFLOPs" in text


@pytest.mark.parametrize(
    ("inputs", "seen", "channels"),
    [
        ("rgb", "RGB alone", 3),
        ("rgbd", "RGB and depth (an upper bound, not for use)", 4),
        ("depth", "depth alone (an upper bound, not for use)", 1),
    ],
)
def test_what_the_network_was_fed_is_said_and_counted(tmp_path: Path, inputs: str, seen: str, channels: int) -> None:
    test = made_up(("a", "b"), 10, 0.5)
    run = fill(tmp_path / "run", test.model_copy(update={"conditions": replace(test.conditions, inputs=inputs)}))
    card = NetworkCard.read(run / "network.json").model_copy(update={"options": {"inputs": inputs}})
    (run / "network.json").write_text(card.model_dump_json())
    text = report(run).text
    assert f"Tested on {seen} by the protocol center" in text
    assert f"The accuracies are computed from {seen}." in text
    assert ("RGB alone" in text) == (inputs == "rgb")
    rgb = sum(parameter.numel() for parameter in create_model("tsm_resnet18", 2, 4, width=8).parameters())
    assert f"{rgb + (channels - 3) * 8 * 7 * 7:,} (depth decoders removed)" in text


def test_the_best_and_the_worst_class_are_named(tmp_path: Path) -> None:
    """Of a one in four is recognised, of b all, of c two in three; there is no clip of d."""
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    predicted = np.array([0, 1, 1, 2, 1, 1, 2, 2, 0])
    like = made_up(("a", "b", "c", "d"), 9, 1.0)
    test = Evaluation.from_scores(
        like.conditions, like.classes, np.eye(4)[predicted], labels, [(k, f"{k}.avi") for k in range(9)], ()
    )
    text = report(fill(tmp_path / "run", test)).text
    assert "Best: b (100 %); worst: a (25 %). 1 of 4 classes has no clip in this split." in text


def test_the_network_of_the_last_best_epoch_is_named_as_kept(tmp_path: Path) -> None:
    history = History((), tuple({"epoch": epoch, "best": epoch in (1, 3)} for epoch in range(1, 5)), (), 0.0)
    assert history.best_epoch == 3
    assert History((), ({"epoch": 1, "best": False},), (), 0.0).best_epoch is None


def test_long_curves_are_thinned_by_means_and_unknown_values_left_out(tmp_path: Path) -> None:
    """Of 1000 known points every three that follow each other become one."""
    steps = [{"event": "train", "time": 0.0, "step": k, "epoch": float(k), "loss": float(k)} for k in range(1000)]
    steps += [{**steps[-1], "epoch": 1000.0, "loss": value} for value in (None, math.nan, math.inf)]
    series = _series("total", [(line, line) for line in steps], "loss")
    assert len(series.x) == 334
    assert list(series.x[:3]) == list(series.y[:3]) == [1.0, 4.0, 7.0]
    assert (series.x[-1], series.y[-1]) == (999.0, 999.0)


@pytest.mark.parametrize(
    ("rates", "log"),
    [
        ([0.1, 0.01, 0.001], True),
        ([0.1, 0.05], False),
        ([0.1], False),
        ([0.1 * 0.9**k for k in range(40)], False),
    ],
    ids=["the paper's steps", "a small step", "none", "a smooth fall"],
)
def test_a_rate_that_falls_in_large_steps_has_a_logarithmic_axis(rates: list[float], log: bool) -> None:
    history = History(tuple({"lr": rate, "epoch": float(k)} for k, rate in enumerate(rates)), (), (), 0.0)
    (chart,) = history.charts(None)
    assert (chart.title, chart.keys) == ("Learning rate", ("learning rate",))
    assert (f'text-anchor="end">{0 if not log else 0.0001:.3g}</text>' in chart.svg) == (not log)


def test_the_cost_of_all_views_is_that_of_one_times_their_number(tmp_path: Path) -> None:
    text = report(fill(tmp_path / "run", made_up(("a", "b"), 10, 0.5, protocol="paper"))).text
    found = re.search(r"one view of this test, at 64 × 64 ([\d.]+) GMAC all 30 views of a clip ([\d.]+) GMAC", text)
    trained = re.search(r"one view of 4 × 56 × 56 ([\d.]+) GMAC", text)
    assert found is not None
    assert trained is not None
    one, all_views = map(float, found.groups())
    assert all_views == pytest.approx(30 * one, rel=0.05)  # one view is told to the million
    assert one == pytest.approx(float(trained[1]) * (64 / 56) ** 2, rel=0.1)


def test_the_file_needs_no_network_and_is_accessible(tmp_path: Path) -> None:
    page = report(fill(tmp_path / "run", made_up(("a", "b", "c"), 30, 0.5)))
    for tag, attributes in page.elements:
        address = attributes.get("src") or attributes.get("href") or ""
        assert address.startswith(("data:image/png;base64,", "#")) or not address, (tag, address)
        assert tag not in ("link", "iframe", "object")
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    assert page.all("html")[0]["lang"] == "en"
    assert "url(" not in (tmp_path / "run" / "report.html").read_text()


def test_hostile_names_are_text(tmp_path: Path) -> None:
    classes = (HOSTILE, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}")
    test = made_up(classes, 40, 0.5, unread=1)
    page = report(fill(tmp_path / HOSTILE.replace("/", ""), test))
    assert len(page.all("script")) == 1
    assert not [attributes for _, attributes in page.elements if "onerror" in attributes]
    assert HOSTILE in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_a_run_folder_whose_name_is_not_utf8_has_a_report(tmp_path: Path) -> None:
    run = tmp_path / os.fsdecode(b"r\xe9n")
    assert "r\\udce9n" in report(fill(run, made_up(("a", "b"), 4, 0.5))).text


def test_249_classes(tmp_path: Path) -> None:
    classes = tuple(str(number + 1) for number in range(249))
    test = made_up(classes, 2000, 0.6)
    page = report(fill(tmp_path / "run", test))
    assert page.all("svg", "matrix") == []
    (image,) = page.all("img")
    source = image["src"]
    assert source is not None
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(source.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (249, 249, 4)
    np.testing.assert_array_equal(picture[..., 3] > 0, test.confusion > 0)
    # 249 classes, the 20 most frequent confusions, facts.
    assert len([1 for tag, attributes in page.elements if tag == "tr"]) > 249 + 20


def test_a_run_without_depth(tmp_path: Path) -> None:
    page = report(fill(tmp_path / "run", made_up(("a", "b"), 10, 0.5), depth=False))
    assert len(page.all("svg", "chart")) == 3
    assert "No panels: this run has no depth decoders" in page.text


@pytest.mark.parametrize(
    ("terms", "titles"),
    [
        (
            {"depth_cross_entropy": 0.7, "alignment": 0.2},
            {"Depth network, class", "Alignment of RGB and depth network"},
        ),
        ({"mask": 0.3}, {"Hand mask, cross-entropy"}),
        ({"mask": None}, set()),
    ],
)
def test_what_other_tasks_learn_has_its_curve(tmp_path: Path, terms: dict[str, float | None], titles: set[str]) -> None:
    lines = []
    for epoch in (1, 2):
        part = {"loss": 2.0, "cross_entropy": 1.5, "top1": 0.5, "clips": 10, **terms}
        head = {"event": "epoch", "time": 1.0, "step": epoch, "epoch": epoch, "best": True}
        lines.append({**head, "train": part, "validation": part})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    history = History.read(tmp_path)
    assert history is not None
    charts = {chart.title: chart.keys for chart in history.charts(None)}
    assert charts.keys() - {"Accuracy", "Loss"} == titles
    assert all(charts[title] == ("training", "validation") for title in titles)


def test_parts_may_be_missing(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(3)}, fill(tmp_path / "trained", None) / "decoders.safetensors")
    trained = report(tmp_path / "trained")
    assert "Not tested yet" in trained.text
    assert f"dynagest evaluate {tmp_path / 'trained'} writes it" in trained.text
    assert "No panels: they have not been made" in trained.text
    assert len(trained.all("svg", "chart")) == 4
    tested = report(fill(tmp_path / "tested", made_up(("a", "b"), 10, 0.5), log=False))
    assert "No curves" in tested.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="not a run folder"):
        write_report(tmp_path / "empty")
    with pytest.raises(RunError, match="no such run folder"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "tested" / "metrics.json").write_text('{"format": 1}')
    with pytest.raises(RunError, match=r"not a metrics file of this version .*conditions: is missing"):
        write_report(tmp_path / "tested")


def test_metrics_of_another_format_are_refused(tmp_path: Path) -> None:
    run = fill(tmp_path, made_up(("a", "b"), 10, 0.5))
    path = run / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(RunError, match=r"not a metrics file of this version \(format: is 2, but must be 1\)"):
        write_report(run)


def test_a_path_may_be_plain_text(tmp_path: Path) -> None:
    run = fill(tmp_path / "run", made_up(("a", "b"), 10, 0.5))
    assert write_report(str(run)) == run / "report.html"


def test_clips_that_training_could_not_read_are_listed_once(tmp_path: Path) -> None:
    run = fill(tmp_path / "run", made_up(("a", "b"), 10, 0.5))
    line = json.dumps({"split": "train", "index": 3, "epoch": 0, "file": "x.avi", "reason": "x.avi: empty file"})
    (run / "unreadable.jsonl").write_text(f"{line}\n{line}\n")
    text = report(run).text
    assert "1 clip could not be read while training" in text
    assert len(re.findall("x.avi: empty file", text)) == 1


def test_a_folder_that_was_copied_in_part_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    run = fill(tmp_path / "run", made_up(("a", "b"), 10, 0.5))
    line = json.dumps({"split": "train", "index": 3, "epoch": 0, "file": "x.avi", "reason": "x.avi: empty file"})
    for text in (f"{line}\n{line[:20]}", f"{line}\n[]"):
        (run / "unreadable.jsonl").write_text(text)
        with pytest.raises(RunError, match=r"unreadable\.jsonl: no list of unreadable clips .*; remove it"):
            write_report(run)
    (run / "unreadable.jsonl").unlink()
    (run / "decoders.safetensors").write_bytes(save({"weight": np.zeros((3, 5), np.float32)})[:-4])
    with pytest.raises(WeightsError, match=r"decoders\.safetensors: damaged .*; copy it again"):
        write_report(run)
    (run / "decoders.safetensors").write_bytes(save({"weight": np.zeros((3, 5), np.float32)}))
    log = (run / "log.jsonl").read_bytes()
    (run / "log.jsonl").write_bytes(log.replace(b'"note"', b'"n\xffte"'))  # a flipped bit costs that line alone
    assert "3 epochs in 2 min 0 s" in report(run).text
    lines = log.splitlines(keepends=True)
    for lost in (b'"event"', b'"time"', b'"best"', b'"epoch"'):  # by a hand that edits, or a disk
        (run / "log.jsonl").write_bytes(b"".join([*lines[:-2], lines[-2].replace(lost, b'"lost"'), lines[-1]]))
        assert "2 epochs in 3 min 0 s" in report(run).text
    (run / "log.jsonl").write_bytes(b"".join([b"[" * 100_000 + b"\n", b"3\n", b"{}\n", *lines]))
    assert "3 epochs in 3 min 0 s" in report(run).text
    for name in ("recipe.json", "environment.json", "unreadable.jsonl"):
        there = (run / name).read_bytes() if (run / name).exists() else b""
        (run / name).write_bytes(b"[" * 100_000)
        with pytest.raises(RunError, match=rf"{re.escape(name)}: .*too deep in each other\); remove it"):
            write_report(run)
        (run / name).write_bytes(there)


def test_on_a_phone_tables_fit_and_charts_can_be_read(tmp_path: Path) -> None:
    needs_browser()
    run = fill(tmp_path / "run", made_up(("rotate_counterclockwise", "swipe_left", "rotate_clockwise"), 60, 0.7))
    with browser(None, viewport={"width": 390, "height": 844}) as page:
        page.goto(write_report(run).as_uri())
        widths = "[...document.querySelectorAll('.scroll:has(table)')].map(box => [box.scrollWidth, box.clientWidth])"
        for inside, room in page.evaluate(widths):
            assert inside <= room
        letters = "[...document.querySelectorAll('.chart text')].map(text => text.getBoundingClientRect().height)"
        assert min(page.evaluate(letters)) > 9
        assert page.faults == []


@pytest.mark.parametrize(("medium", "width"), [("screen", 390), ("print", 700)])
def test_long_names_are_seen_whole_on_a_phone_and_on_paper(tmp_path: Path, medium: str, width: int) -> None:
    needs_browser()
    run = fill(tmp_path / "run", made_up(("w" * 64, "_".join(["hand"] * 13), "short"), 60, 0.5))
    with browser(None, viewport={"width": width, "height": 844}) as page:
        page.emulate_media(media=medium)
        page.goto(write_report(run).as_uri())
        boxes = (
            "[...document.querySelectorAll('html, .lead, .scroll:has(table)')].map(b => [b.scrollWidth, b.clientWidth])"
        )
        for inside, room in page.evaluate(boxes):
            assert inside <= room


def test_every_part_that_scrolls_can_be_reached_by_keys_and_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Without its own name a table beside others is one of several "regions" (axe: landmark-unique)."""
    page = report(fill(tmp_path / "run", made_up(tuple(f"class {k}" for k in range(31)), 300, 0.5)))
    regions = [each for each in page.all("div", "scroll") if each.get("role") == "region"]
    assert {each["tabindex"] for each in regions} == {"0"}
    sections = [each["aria-labelledby"] for each in page.all("section")]
    names = [each.get("aria-label") or each.get("aria-labelledby") for each in regions]
    assert names == ["Table of the classes", "Confusion matrix", "frequent"]
    assert not {*names} & {*sections}


def test_epochs_are_whole() -> None:
    """However few they are: no "1.2" below a chart of three of them, and no "0.6" where there was one."""
    for last, ticks in ((1.0, ["0", "1", "2"]), (3.0, ["1", "2", "3"])):
        epochs = tuple(float(number) for number in range(1, int(last) + 1))
        svg = line_chart("Loss", [Series("total", epochs, (0.5,) * len(epochs))], "epoch")
        assert re.findall(rf'y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">([^<]+)<', svg) == ticks


def test_axes_end_at_round_numbers() -> None:
    assert linear_axis([0.13, 0.82], [0.0, 1.0]).ticks == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert linear_axis([3.0, 3.0]).low < 3 < linear_axis([3.0, 3.0]).high
    assert linear_axis([1.0, 25.0], ticks=6).ticks == (0, 5, 10, 15, 20, 25)
    rates = log_axis([2.5e-3, 2.5e-4, 2.5e-5])
    assert rates.ticks == pytest.approx((1e-5, 1e-4, 1e-3, 1e-2))
    assert rates.place(1e-3) == pytest.approx(2 / 3)
    assert log_axis([0.1]).ticks == pytest.approx((0.1, 1.0))


@pytest.mark.parametrize("accuracy", [0.0, 0.05, 0.1])
def test_no_curve_can_cover_what_chance_is(accuracy: float) -> None:
    """Wherever it runs; a network that learns nothing stays at chance."""
    lines = [Series("training", (1.0, 2.0), (accuracy, accuracy))]
    svg = line_chart("Accuracy", lines, "epoch", percent=True, reference=("chance", 0.05))
    words = re.search(r'<text x="[0-9.]+" y="([0-9.]+)">chance 5 %</text>', svg)
    curve = re.search(r'<polyline class="line s1" points="[0-9.]+,([0-9.]+) ', svg)
    assert words is not None
    assert curve is not None
    assert float(words[1]) - 11 > HEIGHT - BOTTOM >= float(curve[1])


def test_a_square_of_the_confusion_matrix_is_as_dark_as_its_share_of_the_row() -> None:
    svg = str(confusion_svg(np.array([[2, 0], [3, 1]]), ["a", "b"]))
    squares = re.findall(r'<title>([^<]+)</title><rect class="(\w+)" [^>]* fill-opacity="([\d.]+)"/>', svg)
    assert [(title, kind) for title, kind, _ in squares] == [
        *(("a: 2 of 2", "hit"), ("b, taken for a: 3 of 4", "miss"), ("b: 1 of 4", "hit")),
    ]
    assert [float(opacity) for *_, opacity in squares] == pytest.approx(
        [1.0, 0.15 + 0.85 * 0.75, 0.15 + 0.85 / 4], abs=0.006
    )


def test_the_confusion_picture_tells_hits_from_mistakes() -> None:
    source = confusion_png(np.array([[4, 0], [1, 3]]))
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(source.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture[0, 1, 3] == 0
    assert (picture[0, 0, :3] != picture[1, 0, :3]).any()
    assert picture[0, 0, 3] == 255
    assert picture[1, 1, 3] > picture[1, 0, 3] > 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.345, "2.3 s"), (41.2, "41 s"), (312, "5 min 12 s"), (7400, "2 h 3 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("name", ["swipe_counterclockwise_twice", "M" * 26, "b", "右手で左にスワイプする", "W" * 40])
def test_no_label_of_the_confusion_matrix_is_cut_off(name: str) -> None:
    """Rows end where the matrix begins; columns slant from the matrix to the upper right, by 45 degrees."""
    from matplotlib.textpath import TextPath

    svg = str(confusion_svg(np.eye(2, dtype=int), [name, name]))
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
    labels = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" (text-anchor="end"|transform)[^>]*>([^<]+)</text>', svg)
    labels = [label for label in labels if label[3] not in "0123456789"]
    assert len(labels) == 4
    for x, y, kind, text in labels:
        length = TextPath((0, 0), text, size=11).get_extents().width if text[0].isascii() else 11 * len(text)
        if kind != "transform":
            assert float(x) - length >= 0
            continue
        assert float(y) - (length + 9) / math.sqrt(2) >= 0
        assert float(x) + length / math.sqrt(2) <= width
    assert height > 60
