"""Exported files in use: without torch, on the command line, and what a damaged or foreign one says."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from cli_helpers import run
from export_helpers import CLASSES, export_colours, make_network, noise
from onnx import TensorProto, helper

import dynagest as dg
from dynagest.errors import DynagestError, ModelError, RecipeError, RunError, WeightsError
from dynagest.export.convert import set_metadata
from dynagest.export.write import _staged
from dynagest.networks.weights import save_network
from dynagest.runtimes.exported import ExportedNetwork
from dynagest.runtimes.load import load_clip_file, load_clip_network, load_stream_network
from dynagest.runtimes.model_file import KEY, ModelInfo, StateTensor
from dynagest.stream.load import load_recogniser
from dynagest.testing.evaluation import Evaluation

WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "accelerate", "onnx", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def tiny_model(mode: str = "clip") -> onnx.ModelProto:
    """An ONNX graph that needs no exporter: the mean over all pixels, times 1, 2 and 3."""
    card = make_network("tsn_resnet18")[1]
    state = {"seen": StateTensor(shape=(1, 2))} if mode == "stream" else {}
    shape = ["n", 4, 3, 64, 64] if mode == "clip" else [1, 3, 64, 64]
    name = "clips" if mode == "clip" else "frame"
    axes = list(range(1, len(shape)))
    nodes = [
        helper.make_node("ReduceMean", [name, "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Mul", ["column", "weight"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], 3])]
    if mode == "stream":
        nodes.append(helper.make_node("Add", ["state.seen", "one"], ["next.seen"]))
        inputs.append(helper.make_tensor_value_info("state.seen", TensorProto.FLOAT, [1, 2]))
        outputs.append(helper.make_tensor_value_info("next.seen", TensorProto.FLOAT, [1, 2]))
    constants = {
        "axes": np.array(axes),
        "last": np.array([1]),
        "weight": np.float32([[1, 2, 3]]),
        "one": np.float32([1]),
    }
    graph = helper.make_graph(
        nodes, "tiny", inputs, outputs, [onnx.numpy_helper.from_array(v, k) for k, v in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    info = ModelInfo(mode=mode, precision="fp32", card=card, state=state)  # type: ignore[arg-type]
    set_metadata(model, {KEY: info.model_dump_json()})
    return model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_model(), path)
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    folder = tmp_path / "video"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"{number:03}.png"), np.full((40, 50, 3), 200, np.uint8))
    return folder


def run_without_torch(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_file_names_a_gesture(file: Path, video: Path) -> None:
    predictor = dg.Predictor.load(file, threads=1)
    assert predictor.classes == CLASSES
    # 200 / 255 lies above the mean of ImageNet, so the largest weight wins.
    grey = np.mean([(200 / 255 - mean) / std for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])  # noqa: B905
    powers = np.exp(grey * np.array([1, 2, 3]))
    np.testing.assert_allclose(predictor.predict(video).scores, powers / powers.sum(), atol=1e-5)


def test_predicting_needs_no_torch(file: Path, video: Path) -> None:
    done = run_without_torch(
        f"""
import dynagest as dg
print(dg.Predictor.load({str(file)!r}).predict({str(video)!r}).label)
from dynagest.cli import main
sys.argv = ["dynagest", "predict", {str(file)!r}, {str(video)!r}, "--top", "1", "--json"]
main()
"""
    )
    assert done.returncode == 0, done.stderr
    label, line = done.stdout.splitlines()
    assert label == "push"
    assert json.loads(line)["top"][0]["class"] == "push"


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["export", "--help"]])
def test_help_needs_no_torch(arguments: list[str]) -> None:
    done = run_without_torch(f"sys.argv = ['dynagest', *{arguments!r}]\nfrom dynagest.cli import main\nmain()")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("load", ["Predictor.load", "load_recogniser"])
def test_without_torch_a_run_folder_says_what_it_needs(load: str, tmp_path: Path) -> None:
    done = run_without_torch(
        f"""
from dynagest.errors import RecipeError
import dynagest as dg
try:
    dg.{load}({str(tmp_path)!r})
except RecipeError as error:
    print(error)
"""
    )
    assert 'pip install "dynagest[train]"' in done.stdout, done.stderr


def test_a_network_in_memory_a_run_folder_and_a_file_have_one_interface(tmp_path: Path, video: Path) -> None:
    net, card = make_network("tsn_resnet18")
    save_network(tmp_path, net, card)
    in_memory, folder = dg.Predictor.of(net, card), dg.Predictor.load(tmp_path)
    np.testing.assert_array_equal(in_memory.predict(video).scores, folder.predict(video).scores)


@pytest.mark.parametrize("mode", ["clip", "stream"])
def test_a_file_is_tested_on_clips_as_a_network_is(tmp_path: Path, mode: str) -> None:
    """The last class has the largest weight, so that clips brighter than the mean are a push, darker ones a wave."""
    file, data = tmp_path / "network-fp32.onnx", tmp_path / "clips"
    onnx.save(tiny_model(mode), file)
    for name, grey in (("push/light", 200), ("wave/dark", 10), ("wave/light", 210)):
        (data / "test" / name).mkdir(parents=True)
        for number in range(6):
            cv2.imwrite(str(data / "test" / name / f"{number:03}.png"), np.full((64, 64, 3), grey, np.uint8))
    run("data", "index", "folders", str(data), "--out", str(data / "manifest.csv"))
    with pytest.raises(RecipeError, match=r"scores\.csv: is written as NumPy's \.npz; name it [^ ]*scores\.npz$"):
        run("evaluate", str(file), "--data", str(data), "--scores", str(tmp_path / "scores.csv"))
    code, output = run("evaluate", str(file), "--data", str(data), "--scores", str(tmp_path / "scores.npz"))
    assert code == 0
    assert np.load(tmp_path / "scores.npz")["scores"].shape == (3, 3)
    assert "top-1 66.7%" in output
    assert "protocol center, fp32 on cpu" in output
    metrics = Evaluation.read(tmp_path / "network-fp32.onnx.metrics.json")
    np.testing.assert_array_equal(metrics.confusion, [[1, 0, 1], [0, 0, 0], [0, 0, 1]])
    assert not (tmp_path / "report.html").exists()
    for option in (["--dtype", "bfloat16"], ["--device", "cpu"], ["--panels", "3"]):
        with pytest.raises(RecipeError, match=f"^{option[0]} is for networks that torch runs; leave it out for an exp"):
            run("evaluate", str(file), "--data", str(data), *option)
    network = load_clip_file(file)
    with pytest.raises(RecipeError, match=r"^device and dtype are for networks that torch runs"):
        dg.evaluate(network, network.card, dg.Manifest.read(data), dtype="bfloat16")
    with pytest.raises(RunError, match=r"does not tell what the run was trained on .*--data"):
        run("evaluate", str(file))


def test_a_stream_file_steps(tmp_path: Path) -> None:
    path = tmp_path / "stream.onnx"
    onnx.save(tiny_model("stream"), path)
    stream = load_stream_network(path, threads=1)
    state = stream.initial_state()
    np.testing.assert_array_equal(state["seen"], np.zeros((1, 2), np.float32))
    logits, later = stream.step(np.full((1, 3, 64, 64), 2, np.float32), state)
    np.testing.assert_allclose(logits, [[2, 4, 6]])
    np.testing.assert_array_equal(later["seen"], np.ones((1, 2)))


def test_hop_and_threads_are_those_of_windows_and_of_files(file: Path, tmp_path: Path) -> None:
    assert load_recogniser(file, threads=1).scorer.rate == 10
    assert load_recogniser(file, hop=5, threads=1).scorer.rate == 2
    stream = tmp_path / "stream.onnx"
    onnx.save(tiny_model("stream"), stream)
    assert load_recogniser(stream, threads=1).scorer.rate == 10
    with pytest.raises(RecipeError, match=r"--hop: .*stream\.onnx answers at every frame"):
        load_recogniser(stream, hop=2)
    with pytest.raises(RecipeError, match=r"threads=2: .* is run by torch; export it, or set OMP_NUM_THREADS"):
        load_recogniser(tmp_path, threads=2)


def test_fixed_batches_are_run_one_after_the_other() -> None:
    shown: list[int] = []

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shown.append(len(inputs["clips"]))
        return {"logits": inputs["clips"] * 2}

    card = make_network("tsn_resnet18")[1]
    clips = np.broadcast_to(np.float32([0, 1, 2]).reshape(3, 1, 1, 1, 1), (3, card.num_segments, 3, 64, 64))
    info = ModelInfo(mode="clip", precision="fp32", batch=1, card=card)
    np.testing.assert_array_equal(ExportedNetwork(info, run).logits(clips), 2 * clips)
    assert shown == [1, 1, 1]
    ExportedNetwork(info.model_copy(update={"batch": None}), run).logits(clips)
    assert shown[-1] == 3


def test_more_looks_than_an_exported_file_takes(file: Path) -> None:
    """The paper's views are larger than those of training, and a file has one size."""
    predictor = dg.Predictor.load(file)
    video = np.random.default_rng(0).integers(0, 255, (20, 64, 80, 3), dtype=np.uint8)
    assert len(predictor.predict(video, "clips10").scores) == 3
    with pytest.raises(ModelError, match=r"\(4, 3, 73, 73\).* takes 4 frames of 64 x 64 only; use the protocol center"):
        predictor.predict(video, "paper")


def test_foreign_other_truncated_and_absent_files_are_named(file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    info = json.loads(model.metadata_props[0].value)

    def changed(metadata: dict[str, str]) -> Path:
        set_metadata(model, metadata)
        onnx.save(model, tmp_path / "changed.onnx")
        return tmp_path / "changed.onnx"

    with pytest.raises(WeightsError, match="was not exported by dynagest"):
        load_clip_network(changed({}))
    with pytest.raises(WeightsError, match=r"is of format 2, this dynagest reads format 1; export .* newer"):
        load_clip_network(changed({KEY: json.dumps({"format": 2, "news": True})}))
    with pytest.raises(WeightsError, match="precision: is 'fp7'"):
        load_clip_network(changed({KEY: json.dumps({**info, "precision": "fp7"})}))
    info["card"]["options"] = {"inputs": "rgbd"}
    with pytest.raises(WeightsError, match="wants 'rgbd' frames"):
        load_clip_network(changed({KEY: json.dumps(info)}))
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(file.read_bytes()[:200])
    with pytest.raises(WeightsError, match=r"cut\.onnx: damaged, or no ONNX network"):
        load_clip_network(cut)
    cut.write_bytes(file.read_bytes().replace(b'"precision"', b'"precisi\xffn"'))  # a flipped bit in the description
    with pytest.raises(WeightsError, match=r"cut\.onnx: damaged, or no ONNX network"):
        load_clip_network(cut)
    cut.write_bytes(b"")
    with pytest.raises(WeightsError, match="the file is empty"):
        load_clip_network(cut)
    with pytest.raises(WeightsError, match="there is no such file"):
        load_clip_network(tmp_path / "none.onnx")


CARD_LIES = {
    "size": ({"card": {"size": 96}}, r"takes {input} as float32 \[.*3, 64, 64\], and not as .* 96\]"),
    "classes": ({"card": {"classes": list("abcde")}}, r"gives logits as float32 \[\w+, 3\], and not as .*5\]"),
    "one class": ({"card": {"classes": ["a"]}}, "card.classes: there is one"),
    "fps": ({"card": {"fps": float("inf")}}, "card.fps: is inf, but must be a finite number"),
}
CLIP_LIES = CARD_LIES | {
    "length": ({"card": {"num_segments": 6}}, r"takes clips as float32 \[any, 4,.*\], and not as float32 \[any, 6,"),
    "mode": ({"mode": "stream"}, "takes frame as nothing"),
    "batch": ({"batch": 2}, r"takes clips as float32 \[any,.*and not as float32 \[2,"),
    "no batch": ({"batch": 0}, "batch: is 0, but must be at least 1"),
}
STREAM_LIES = CARD_LIES | {
    "mode": ({"mode": "clip", "state": {}}, "takes clips as nothing"),
    "other state": ({"state": {"past": {"shape": [1, 2]}}}, "takes state.past as nothing"),
    "more state": ({"state": {"seen": {"shape": [1, 2]}, "past": {"shape": [1]}}}, "takes state.past as nothing"),
    "no state": ({"state": {}}, "takes state.seen as float32 .*, and not as nothing"),
    "shape": ({"state": {"seen": {"shape": [1, 3]}}}, r"\[1, 2\], and not as float32 \[1, 3\]"),
    "kind": ({"state": {"seen": {"shape": [1, 2], "dtype": "uint8"}}}, "and not as uint8"),
    "negative": ({"state": {"seen": {"shape": [1, -2]}}}, "state.seen.shape, entry 2: is -2, but must be at least 1"),
    "huge": ({"state": {"seen": {"shape": [10**9, 10**9]}}}, "state.seen.shape: .* more than 67,108,864 numbers"),
}


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(
    ("mode", "change", "message"),
    [pytest.param("clip", *lie, id=f"clip, {name}") for name, lie in CLIP_LIES.items()]
    + [pytest.param("stream", *lie, id=f"stream, {name}") for name, lie in STREAM_LIES.items()],
)
def test_a_file_that_says_something_else_than_its_graph_is_told_when_it_is_read(
    tmp_path: Path, suffix: str, mode: str, change: dict, message: str
) -> None:
    import openvino

    model = tiny_model(mode)
    info = json.loads(model.metadata_props[0].value)
    text = json.dumps({**info, **change, "card": info["card"] | change.get("card", {})})
    path = tmp_path / f"changed{suffix}"
    set_metadata(model, {KEY: text})
    if suffix == ".onnx":
        onnx.save(model, path)
    else:
        network = openvino.Core().read_model(model.SerializeToString())
        network.set_rt_info(text, [KEY])
        openvino.save_model(network, path)
    load = load_clip_network if change.get("mode", mode) == "clip" else load_stream_network
    with pytest.raises(WeightsError, match=message.replace("{input}", "clips" if mode == "clip" else "frame")) as told:
        load(path)
    assert str(told.value).startswith(f"{path}: what it says of itself ")


def test_openvino_files_come_in_twos(tmp_path: Path) -> None:
    xml = tmp_path / "network.xml"
    xml.write_text("<net/>")
    with pytest.raises(WeightsError, match=r"network\.bin: is missing; an OpenVINO network is two files"):
        load_clip_network(xml)
    xml.with_suffix(".bin").write_bytes(b"0")
    with pytest.raises(WeightsError, match="damaged, or no OpenVINO network"):
        load_clip_network(xml)


def test_a_foreign_openvino_network_is_refused_and_ours_is_read(file: Path, tmp_path: Path) -> None:
    import openvino

    xml = tmp_path / "network.xml"
    network = openvino.Core().read_model(str(file))
    openvino.save_model(network, xml)
    with pytest.raises(WeightsError, match="was not exported by dynagest"):
        load_clip_network(xml)
    network.set_rt_info(onnx.load(file).metadata_props[0].value, [KEY])
    openvino.save_model(network, xml)
    read = load_clip_network(xml, threads=1)
    assert read.card == load_clip_network(file).card
    clips = noise(3)
    np.testing.assert_allclose(read.logits(clips), load_clip_network(file).logits(clips), atol=1e-6)
    xml.write_bytes(xml.read_bytes().replace(b"precision&quot;", b"precisi\xffn&quot;"))
    with pytest.raises(WeightsError, match=r"network\.xml: damaged, or no OpenVINO network"):
        load_clip_network(xml)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("a.onnx", {"device": "cuda"}, "device=cuda: a.onnx is exported and runs on the CPU"),
        ("a.xml", {"providers": ["CPUExecutionProvider"]}, "runs in OpenVINO"),
        ("a.onnx", {"threads": 0}, "at least 1"),
        ("run", {"threads": 2}, "OMP_NUM_THREADS"),
    ],
)
def test_options_that_do_not_go_with_a_runtime_are_refused(path: str, options: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_clip_network(path, **options)


def test_an_unknown_provider_is_refused(file: Path) -> None:
    with pytest.raises(DynagestError, match=r"has no NoneExecutionProvider; it has .*CPUExecutionProvider"):
        load_clip_network(file, providers=["NoneExecutionProvider"])


@pytest.mark.parametrize("name", ["network.onnx", "network.xml"])
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    told = rf"{name}: cannot be written \(Read-only file system\); .*name another --out"
    with pytest.raises(RunError, match=told), _staged(tmp_path / name):
        pass


def test_what_cannot_be_read_is_not_told_as_the_file_that_is_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="calibration"), _staged(tmp_path / "network.onnx"):
        (tmp_path / "calibration").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_while_a_network_is_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(RunError, match=rf"{tmp_path}: cannot be written \(No space left on device\); make room"):
        export_colours(tmp_path / "network.onnx", "left", "right")
