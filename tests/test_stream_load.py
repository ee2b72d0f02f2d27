"""From any form of a network to a recogniser: each gives the same scores as the run folder that it comes from."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from export_helpers import export_colours, save_run

from dynagest.card import NetworkCard
from dynagest.errors import RecipeError, WeightsError
from dynagest.export.streams import StreamForm, convert_stream
from dynagest.export.write import convert_clips, write_model
from dynagest.networks.build import create_model
from dynagest.networks.weights import load_network, save_network
from dynagest.run_folder import CARD_FILE, EVENTS_FILE
from dynagest.runtimes.model_file import Mode, ModelInfo
from dynagest.stream.events import EventSettings, EventsFile
from dynagest.stream.load import load_recogniser
from dynagest.stream.recogniser import Recogniser
from dynagest.web import serve
from dynagest.web.model import export_command, load_model

CLASSES = ("none", "push", "wave")
TUNED = EventSettings(threshold=0.45, dip=0.2, lag=0.1)


@pytest.fixture(scope="module", params=[("clip", False), ("stream", True)], ids=["clip", "stream"])
def forms(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run folder with tuned events, and an export of it for whole clips or for streams."""
    mode: Mode = request.param[0]
    folder = tmp_path_factory.mktemp(mode)
    options = {"online": True} if request.param[1] else {}
    torch.manual_seed(0)
    net = create_model("tsm_resnet18", 3, 4, width=8, size=32, options=options).eval()
    card = NetworkCard(
        model="tsm_resnet18", classes=CLASSES, num_segments=4, size=32, width=8, options=options, fps=5.0, stride=1
    )
    run = folder / "run"
    save_network(run, net, card)
    EventsFile(settings=TUNED).write(run)
    model, state = convert_clips(net, card, "onnx") if mode == "clip" else convert_stream(StreamForm(net, 32))
    path = folder / "exported.onnx"
    info = ModelInfo(mode=mode, precision="fp32", card=card, state=state, events=TUNED.model_dump())
    write_model(model, info, "onnx", [], path)
    return run, path


def scores(recogniser: Recogniser) -> np.ndarray:
    rng = np.random.default_rng(0)
    found = []
    for index in range(24):
        frame = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        found += [one.scores for one in recogniser.push(frame, index / 12).scores]
    return np.array(found)


def test_an_export_gives_the_scores_of_its_run(forms: tuple[Path, Path]) -> None:
    run, path = forms
    expected, found = scores(load_recogniser(run)), scores(load_recogniser(path))
    assert len(expected) >= 6
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_stream_of_windows_gives_the_scores_of_its_run_and_does_not_wait_for_the_first(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "action_resnet18")
    net, card = load_network(run)
    model, state = convert_stream(StreamForm(net, card.size))
    path = tmp_path / "exported.onnx"
    write_model(model, ModelInfo(mode="stream", precision="fp32", card=card, state=state), "onnx", [], path)
    expected, found = scores(load_recogniser(run)), scores(load_recogniser(path))
    assert len(found) == len(expected) + card.num_segments - 1
    assert found[card.num_segments - 1 :] == pytest.approx(expected, abs=1e-4)
    with pytest.raises(RecipeError, match=r"--hop: .* answers at every frame"):
        load_recogniser(path, hop=2)
    with pytest.raises(RecipeError, match=r"hop=0: .* at least 1"):
        load_recogniser(run, hop=0)
    with pytest.raises(RecipeError, match="fps=0: is no frame rate"):
        load_recogniser(run, fps=0)


def test_tuned_events_travel_with_the_network(forms: tuple[Path, Path]) -> None:
    for path in forms:
        assert load_recogniser(path).detector.settings == TUNED


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_an_export_of_before_the_tuning_takes_the_settings_beside_it(suffix: str, tmp_path: Path) -> None:
    path = export_colours(tmp_path / f"network{suffix}", "left", "right")
    assert load_recogniser(path).detector.settings == EventSettings()
    EventsFile(settings=TUNED).write(tmp_path)
    assert load_recogniser(path).detector.settings == TUNED


def test_a_run_is_served_with_its_settings_of_now(
    forms: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(forms[0], tmp_path / "run")
    shutil.copy(forms[1], export_command(run, NetworkCard.read(run / CARD_FILE))[1])
    monkeypatch.setattr(serve, "find_runtime", lambda: tmp_path)
    options = serve.ServeOptions(run, data=tmp_path / "gestures")
    assert serve.build_site(options).models.current.events == TUNED
    again = TUNED.model_copy(update={"threshold": 0.7})
    EventsFile(settings=again).write(run)
    assert serve.build_site(options).models.current.events == again == load_recogniser(run).detector.settings
    (run / EVENTS_FILE).unlink()
    assert serve.build_site(options).models.current.events == EventSettings()


def test_another_rate_can_be_given(forms: tuple[Path, Path]) -> None:
    for path in forms:
        assert len(scores(load_recogniser(path, fps=2.5))) < len(scores(load_recogniser(path)))


def test_options_that_mean_nothing_to_an_export(forms: tuple[Path, Path]) -> None:
    with pytest.raises(RecipeError, match="exported and runs on the CPU"):
        load_recogniser(forms[1], device="cuda")


def test_a_device_whose_memory_is_full_is_told(forms: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nOf the allocated memory ...")

    monkeypatch.setattr(torch.nn.Module, "to", refuse)
    with pytest.raises(RecipeError, match=r"^device 'cpu': not to be used here \(CUDA out of memory\. .* 2 GiB\.\)"):
        load_recogniser(forms[0])


def test_an_export_of_another_version(forms: tuple[Path, Path], tmp_path: Path) -> None:
    data, path = forms[1].read_bytes(), tmp_path / "exported.onnx"
    assert data.count(b'"format":1') == 1
    path.write_bytes(data.replace(b'"format":1', b'"format":9'))
    with pytest.raises(WeightsError, match=r"exported\.onnx: is of format 9"):
        load_recogniser(path)


def test_events_of_another_version(forms: tuple[Path, Path], tmp_path: Path) -> None:
    data, path = forms[1].read_bytes(), tmp_path / "exported.onnx"
    assert data.count(b'"dip":') == 1
    path.write_bytes(data.replace(b'"dip":', b'"dab":'))
    for load in (load_recogniser, load_model):
        with pytest.raises(WeightsError, match=r"exported\.onnx: its event settings are not of this version \(dab: "):
            load(path)
