import errno
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from network_helpers import random_clip, trained_literal
from torch import Tensor, nn

from dynagest.card import NetworkCard
from dynagest.errors import RunError, WeightsError
from dynagest.networks.build import create_model
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.weights import load_network, load_weights, save_network


def small(name: str = "action_resnet18", num_classes: int = 5, width: int = 16) -> ClipNet:
    return create_model(name, num_classes, num_segments=4, width=width).eval()


def card_of(net: ClipNet) -> NetworkCard:
    classes = tuple(f"gesture {k}" for k in range(net.num_classes))
    return NetworkCard(model=net.name, classes=classes, num_segments=net.num_segments, width=net.width)


def snapshot(net: ClipNet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def unchanged(net: ClipNet, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def imagenet(literal: nn.Module, drop: str = "") -> dict[str, Tensor]:
    """The literal network's backbone under ImageNet names, 1000 classes."""
    state = {name.removeprefix("base_model."): tensor for name, tensor in literal.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if not drop or drop not in name}
    features = state["fc.weight"].shape[1]
    return {**state, "fc.weight": torch.ones(1000, features), "fc.bias": torch.ones(1000)}


@pytest.mark.parametrize(
    ("name", "prefix", "dropout"),
    [
        ("tsm_resnet50", "module.", 0.5),
        ("tsm_resnet18", "module.", 0.0),
        ("tsm_resnet101", "module.", 0.5),
        ("action_resnet50", "", 0.0),
        ("action_resnet50", "", 0.5),
        ("tea_res2net50", "module.", 0.5),
    ],
)
def test_published_checkpoint_gives_the_published_logits(
    tmp_path: Path, name: str, prefix: str, dropout: float
) -> None:
    literal = trained_literal(name, width=16, dropout=dropout)
    state = {prefix + key: tensor for key, tensor in literal.state_dict().items()}
    optimizer = torch.optim.SGD(literal.parameters(), lr=0.1, momentum=0.9).state_dict()
    checkpoint = {"epoch": 25, "arch": "resnet50", "state_dict": state, "optimizer": optimizer}
    torch.save({**checkpoint, "best_prec1": torch.tensor(94.2)}, tmp_path / "ckpt.best.pth.tar")
    net = small(name)
    report = load_weights(net, tmp_path / "ckpt.best.pth.tar")
    assert report.source == "published"
    assert (report.skipped, report.reinitialised, report.missing) == ((), (), ())
    assert set(report.matched) == set(net.state_dict())
    clip = random_clip()
    with torch.no_grad():
        assert torch.allclose(net(clip), literal(clip), atol=1e-4)


@pytest.mark.parametrize(
    "wrappers", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "network._orig_mod."]
)
def test_what_wraps_a_network_leaves_no_trace(tmp_path: Path, wrappers: str) -> None:
    """DataParallel puts ``module.`` in front of every name, torch.compile ``_orig_mod.``, Lightning an attribute's."""
    torch.save({wrappers + name: tensor + 1 for name, tensor in small().state_dict().items()}, tmp_path / "w.pth")
    net = small()
    report = load_weights(net, tmp_path / "w.pth")
    assert (report.source, len(report.matched), report.skipped) == ("dynagest", len(net.state_dict()), ())


@pytest.mark.parametrize("legacy_format", [False, True])
def test_files_written_before_torch_1_6(tmp_path: Path, legacy_format: bool) -> None:
    literal = trained_literal("tsm_resnet18", width=16)
    torch.save(
        {"state_dict": literal.state_dict()},
        tmp_path / "old.pth",
        _use_new_zipfile_serialization=not legacy_format,
    )
    assert not load_weights(small("tsm_resnet18"), tmp_path / "old.pth").missing


@pytest.mark.parametrize("name", ["tsn_resnet50", "tsm_resnet50", "action_resnet50"])
def test_imagenet_resnet(tmp_path: Path, name: str) -> None:
    literal = trained_literal("tsn_resnet50", width=16)
    torch.save(imagenet(literal), tmp_path / "resnet50.pth")
    net = small(name)
    initial = snapshot(net)
    report = load_weights(net, tmp_path / "resnet50.pth")
    assert report.source == "ImageNet"
    assert report.reinitialised == ("classifier.weight", "classifier.bias")
    assert report.skipped == ("fc.weight", "fc.bias")
    assert all("action_" in key for key in report.missing)
    assert bool(report.missing) == (name == "action_resnet50")
    loaded = net.state_dict()
    assert all(torch.equal(loaded[key], initial[key]) for key in report.missing)
    conv1 = "base_model.layer2.1.conv1" + ("" if name == "tsn_resnet50" else ".net") + ".weight"
    assert torch.equal(loaded[conv1], literal.state_dict()["base_model.layer2.1.conv1.weight"])
    assert loaded["classifier.weight"].std() < 0.002


def test_imagenet_head_is_kept_when_the_classes_agree(tmp_path: Path) -> None:
    torch.save(imagenet(trained_literal("tsn_resnet18", width=16)), tmp_path / "resnet18.pth")
    net = small("tsn_resnet18", num_classes=1000)
    assert load_weights(net, tmp_path / "resnet18.pth").reinitialised == ()
    assert torch.equal(net.classifier.weight, torch.ones(1000, 128))


@pytest.mark.parametrize("lost", ["fc.weight", "fc.bias"])
def test_half_a_head_is_none(tmp_path: Path, lost: str) -> None:
    state = imagenet(trained_literal("tsn_resnet18", width=16))
    del state[lost]
    torch.save(state, tmp_path / "resnet18.pth")
    net = small("tsn_resnet18", num_classes=1000)
    report = load_weights(net, tmp_path / "resnet18.pth")
    assert report.reinitialised == ("classifier.weight", "classifier.bias")
    assert set(report.skipped) == {"fc.weight", "fc.bias"} - {lost}
    assert net.classifier.weight.std() < 0.002
    assert not net.classifier.bias.any()


def test_imagenet_res2net(tmp_path: Path) -> None:
    state = imagenet(trained_literal("tea_res2net50", width=16))
    state = {name: tensor for name, tensor in state.items() if ".me." not in name and ".shifts." not in name}
    torch.save(state, tmp_path / "res2net.pth")
    report = load_weights(small("tea_res2net50"), tmp_path / "res2net.pth")
    assert {key.split(".")[3] for key in report.missing} == {"me", "shifts"}
    assert len(report.missing) == 16 * (3 + 8 + 4)


def test_files_without_batch_counters(tmp_path: Path) -> None:
    state = imagenet(trained_literal("tsn_resnet18", width=16), drop="num_batches_tracked")
    torch.save(state, tmp_path / "resnet18.pth")
    assert load_weights(small("tsm_resnet18"), tmp_path / "resnet18.pth").missing == ()


def test_other_classes_reinitialise_the_head_and_say_so(tmp_path: Path) -> None:
    source = small(num_classes=83)
    path = save_network(tmp_path, source, card_of(source))
    net = small(num_classes=25)
    nn.init.ones_(net.classifier.bias)
    report = load_weights(net, path)
    assert report.source == "dynagest"
    assert report.reinitialised == ("classifier.weight", "classifier.bias")
    assert "classifier re-initialised" in str(report)
    assert net.classifier.bias.abs().max() == 0
    assert torch.equal(net.base_model.conv1.weight, source.base_model.conv1.weight)


@pytest.mark.parametrize(("dropout", "head"), [(0.0, "base_model.fc"), (0.5, "new_fc")])
def test_a_published_head_for_other_classes_is_reinitialised_too(tmp_path: Path, dropout: float, head: str) -> None:
    literal = trained_literal("action_resnet18", 7, width=16, dropout=dropout)
    torch.save({"state_dict": literal.state_dict()}, tmp_path / "published.pth")
    net = small()
    nn.init.ones_(net.classifier.bias)
    report = load_weights(net, tmp_path / "published.pth")
    assert (report.source, report.missing) == ("published", ())
    assert report.reinitialised == ("classifier.weight", "classifier.bias")
    assert report.skipped == (f"{head}.weight", f"{head}.bias")
    assert (net.classifier.bias.any().item(), net.classifier.weight.std() < 0.002) == (False, True)
    assert torch.equal(net.base_model.conv1.weight, literal.base_model.conv1.weight)


def test_temporal_modules_that_the_network_lacks_are_skipped(tmp_path: Path) -> None:
    source = small("action_resnet18")
    report = load_weights(small("tsm_resnet18"), save_network(tmp_path, source, card_of(source)))
    assert report.missing == ()
    assert all("action_" in name for name in report.skipped)
    assert "not used" in str(report)


@pytest.mark.parametrize(
    ("name", "lost"),
    [("action_resnet18", "layer3.0.conv1.action_p2_"), ("tea_res2net50", "layer3.1.me."), ("action_resnet18", "_p1_")],
)
def test_part_of_the_temporal_modules_is_damage(tmp_path: Path, name: str, lost: str) -> None:
    state = trained_literal(name, width=16).state_dict()
    torch.save({key: value for key, value in state.items() if lost not in key}, tmp_path / "part.pth")
    net = small(name)
    before = snapshot(net)
    with pytest.raises(WeightsError, match=rf"part\.pth: has lost part of its temporal modules: it lacks .*{lost}"):
        load_weights(net, tmp_path / "part.pth")
    assert unchanged(net, before)


def test_the_network_of_a_checkpoint(tmp_path: Path) -> None:
    source = small()
    tensors = {f"task.network.{name}": value for name, value in source.state_dict().items()}
    others = {"task.decoder.decoders.local.0.weight": torch.ones(3), "optimiser.exp_avg.network.x": torch.ones(2)}
    safetensors.torch.save_file(tensors | others, tmp_path / "checkpoint.safetensors")
    net = small()
    report = load_weights(net, tmp_path / "checkpoint.safetensors")
    assert (report.source, report.skipped, report.missing) == ("dynagest", (), ())
    assert unchanged(net, snapshot(source))


@pytest.mark.parametrize(
    ("stored", "into", "says"),
    [
        ("tsn_resnet50", "tsn_resnet18", "it has base_model.layer1"),
        ("tsn_resnet18", "tsn_resnet34", "it lacks base_model.layer1.2"),
        ("tsn_resnet101", "tsn_resnet50", "it has base_model.layer3.6"),
        ("tsn_resnet50", "tea_res2net50", "it has base_model.layer1.0.conv2"),
    ],
)
def test_another_network_is_refused_with_examples(tmp_path: Path, stored: str, into: str, says: str) -> None:
    torch.save(trained_literal(stored, width=8).state_dict(), tmp_path / "other.pth")
    net = small(into, width=8)
    before = snapshot(net)
    with pytest.raises(WeightsError, match=says):
        load_weights(net, tmp_path / "other.pth")
    assert unchanged(net, before)


def test_another_width_is_refused(tmp_path: Path) -> None:
    source = small(width=8)
    path = save_network(tmp_path, source, card_of(source))
    net = small(width=16)
    before = snapshot(net)
    with pytest.raises(WeightsError, match=r"other shapes: .*bn1\.bias \(8,\) instead of \(16,\)"):
        load_weights(net, path)
    assert unchanged(net, before)


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"it has encoder\.weight"):
        load_weights(small(), tmp_path / "other.pth")


class WritesAFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("saved_by", ["torch", "pickle"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, saved_by: str) -> None:
    target = tmp_path / "was_run"
    content = {"state_dict": {"conv1.weight": torch.zeros(1)}, "extra": WritesAFile(target)}
    path = tmp_path / "evil.pth"
    if saved_by == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content["extra"]))
    net = small()
    before = snapshot(net)
    with pytest.raises(WeightsError, match=r"its code was not run.*weights_only=False"):
        load_weights(net, path)
    assert not target.exists()
    assert unchanged(net, before)
    # The file is as dangerous as it claims to be.
    torch.load(path, weights_only=False) if saved_by == "torch" else pickle.loads(path.read_bytes())
    assert target.exists()


def test_a_checkpoint_with_other_objects_says_how_to_convert_it(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "best_prec1": np.float64(94.2)}, tmp_path / "numpy.pth")
    with pytest.raises(WeightsError, match=r"convert it once .*\['state_dict'\].*Reason: .*numpy"):
        load_weights(small(), tmp_path / "numpy.pth")


def test_a_checkpoint_of_another_pickle_protocol_is_told_of_once(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    torch.save(small().state_dict(), tmp_path / "four.pth", pickle_protocol=4)
    with pytest.raises(WeightsError, match=r"four\.pth: holds more .* convert it once .*Reason: Unsupported operand"):
        load_weights(small(), tmp_path / "four.pth")
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.999])
def test_damaged_files(tmp_path: Path, suffix: str, keep: float) -> None:
    net = small()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(net.state_dict(), path)
    else:
        safetensors.torch.save_file(net.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    before = snapshot(net)
    with pytest.raises(WeightsError, match="empty" if keep == 0 else "damaged") as error:
        load_weights(net, path)
    assert str(path) in str(error.value)
    assert unchanged(net, before)


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(1)], {}])
def test_files_without_weights(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "no.pth")
    with pytest.raises(WeightsError, match="holds no weights"):
        load_weights(small(), tmp_path / "no.pth")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # deprecated, but files have such tensors
@pytest.mark.parametrize("kind", ["quantised", "sparse", "meta"])
def test_tensors_that_are_no_plain_numbers_are_named(tmp_path: Path, kind: str) -> None:
    net = small()
    state, name = net.state_dict(), "base_model.conv1.weight"
    plain = state[name]
    odd = {"sparse": plain.to_sparse, "meta": lambda: plain.to("meta")}
    state[name] = odd[kind]() if kind in odd else torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8)
    torch.save(state, tmp_path / "odd.pth")
    before = snapshot(net)
    with pytest.raises(WeightsError, match=r"odd\.pth: base_model\.conv1\.weight is quantised, sparse or without"):
        load_weights(net, tmp_path / "odd.pth")
    assert unchanged(net, before)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no such file"):
        load_weights(small(), tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["tsn_resnet18", "tsm_resnet18", "action_resnet18", "tea_res2net50"])
def test_saved_networks_come_back_identical(tmp_path: Path, name: str) -> None:
    net = small(name).to(memory_format=torch.channels_last)
    path = save_network(str(tmp_path / "run"), net, card_of(net))
    assert path == tmp_path / "run" / "network.safetensors"
    clip = random_clip(size=32)
    for place in (path, path.parent):
        loaded, card = load_network(place)
        assert card == card_of(net)
        assert not loaded.training
        assert unchanged(loaded, snapshot(net))
        with torch.no_grad():
            # The weights are the same bit for bit; in another memory format other kernels round otherwise.
            torch.testing.assert_close(loaded(clip), net(clip), rtol=1e-4, atol=1e-4)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_a_full_disk_leaves_the_old_network_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = small(), small()
    save_network(tmp_path, old, card_of(old))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        save_network(tmp_path, new, card_of(new))
    loaded, _ = load_network(tmp_path)
    assert unchanged(loaded, snapshot(old))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["network.json", "network.safetensors"]


def test_weights_and_card_must_belong_together(tmp_path: Path) -> None:
    net = small()
    save_network(tmp_path, net, card_of(net))
    card = card_of(net).model_copy(update={"classes": ("one", "two")})
    (tmp_path / "network.json").write_text(card.model_dump_json())
    with pytest.raises(WeightsError, match=r"2 classes; these differ: classifier\.bias, classifier\.weight"):
        load_network(tmp_path)
    with pytest.raises(WeightsError, match="the card is of another network"):
        save_network(tmp_path, net, card)
    (tmp_path / "network.json").write_text(card_of(net).model_copy(update={"model": "of_2030"}).model_dump_json())
    with pytest.raises(WeightsError, match=r"network\.json: no network that this version can build: .*'of_2030'"):
        load_network(tmp_path)
    online = create_model(net.name, 5, num_segments=4, width=16, options={"online": True})  # has the same tensors
    with pytest.raises(WeightsError, match="the card is of another network"):
        save_network(tmp_path, online, card_of(net))


@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.Sequential])
def test_only_networks_of_dynagest_are_saved_and_loaded(tmp_path: Path, wrap: type[nn.Module]) -> None:
    net = small()
    with pytest.raises(WeightsError, match=rf"^any: {wrap.__name__} is no network of dynagest; .*create_model"):
        load_weights(wrap(net), "any")
    with pytest.raises(WeightsError, match=rf"^{tmp_path}: {wrap.__name__} is no network of dynagest; .*create_model"):
        save_network(tmp_path, wrap(net), card_of(net))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lacking", ["network.json", "network.safetensors"])
def test_both_files_are_needed(tmp_path: Path, lacking: str) -> None:
    net = small()
    save_network(tmp_path, net, card_of(net))
    (tmp_path / lacking).unlink()
    with pytest.raises(WeightsError, match=lacking):
        load_network(tmp_path)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "network.json", "wave.mp4", "resnet50.pth"])
def test_another_file_than_a_network_is_told_from_one(tmp_path: Path, name: str) -> None:
    """Such as a video, where it and the run were given in the wrong order."""
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(WeightsError, match=rf"{name}: is no network for use; name a run folder"):
        load_network(tmp_path / name)


def test_an_exported_file_or_a_picture_is_not_trained_on(tmp_path: Path) -> None:
    net = small()
    save_network(tmp_path, net, card_of(net))
    for name in ("network-fp32.onnx", "network-fp32.xml", "network-fp32.bin"):
        (tmp_path / name).write_bytes(b"anything")
    for name in ("network-fp32.onnx", "network-fp32.xml", "network-fp32.bin"):
        with pytest.raises(WeightsError, match=f"{name}: an exported network, .* as in {tmp_path}$"):
            load_weights(net, tmp_path / name)
    for name, data in (("s.png", b"\x89PNG\r\n\x1a\n"), ("a.txt", b"hello\n"), ("a.pth", b"I am text")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match=f"{name}: damaged, or no weights file; name a run folder"):
            load_weights(net, tmp_path / name)


def test_weights_that_may_not_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "closed.pth", Path.open
    torch.save({}, path)

    def refuse(self: Path, *args: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match=r"closed\.pth: cannot be read \(Permission denied\)"):
        load_weights(small(), path)
