"""The paper's loss: weights, scales, binarised targets, clips without depth, batches that are cut."""

import pytest
import torch
import torch.nn.functional as F

from dynagest.errors import ModelError, RecipeError
from dynagest.task.decoder import Masks
from dynagest.task.loss import Counts, DepthLoss, LossWeights


def batch(n: int = 4, t: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Masks, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 5, generator=generator, requires_grad=True)
    label = torch.randint(5, (n,), generator=generator)
    local = torch.randn(n * t, 1, 16, 16, generator=generator, requires_grad=True)
    global_ = torch.randn(n * t, 1, 4, 4, generator=generator, requires_grad=True)
    return logits, label, Masks(local, global_), torch.rand(n, t, 1, 16, 16, generator=generator)


def test_published_weights() -> None:
    assert LossWeights() == LossWeights(1.0, 1.0, 0.01)


def test_total_is_the_weighted_sum_of_means() -> None:
    logits, label, masks, depth = batch()
    loss, terms = DepthLoss()(logits, label, masks, depth, torch.ones(4, dtype=torch.bool))
    frames = depth.flatten(0, 1)
    quarter = F.interpolate(frames, size=(4, 4), mode="bilinear", align_corners=False)
    expected = (
        F.cross_entropy(logits, label) + F.mse_loss(masks.local, frames) + 0.01 * F.mse_loss(masks.global_, quarter)
    )
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(terms["local"], F.mse_loss(masks.local, frames))
    torch.testing.assert_close(terms["global"], F.mse_loss(masks.global_, quarter))


def test_bilinear_target_by_hand() -> None:
    # From 4 to 1 pixel, half-pixel centres: the mean of the four inner pixels.
    depth = torch.arange(16.0).view(1, 1, 1, 4, 4) / 16
    assert DepthLoss().target(depth, torch.Size((1, 1))).item() == pytest.approx((5 + 6 + 9 + 10) / 4 / 16)


def test_binarised_at_ten_of_255() -> None:
    depth = torch.tensor([0, 10, 11, 255]).view(1, 1, 1, 2, 2) / 255
    assert DepthLoss(threshold=10 / 255).target(depth, torch.Size((2, 2))).flatten().tolist() == [0, 0, 1, 1]


def test_a_threshold_beyond_depth_is_told() -> None:
    """Every target would be 0."""
    with pytest.raises(RecipeError, match=r"^threshold: 10 is beyond depth, which lies in \[0, 1\]; give 10 / 255$"):
        DepthLoss(threshold=10)


def test_binarised_target_stays_binary_when_resized() -> None:
    target = DepthLoss(threshold=10 / 255).target(torch.rand(2, 3, 1, 16, 16), torch.Size((5, 5)))
    assert set(target.unique().tolist()) <= {0.0, 1.0}
    assert target.shape == (6, 1, 5, 5)


def test_clip_without_depth_trains_the_class_only() -> None:
    logits, label, masks, depth = batch()
    has_depth = torch.tensor([True, False, True, False])
    loss, terms = DepthLoss()(logits, label, masks, depth, has_depth)
    loss.backward()
    by_clip = masks.local.grad.unflatten(0, (4, 2)).abs().sum(dim=(1, 2, 3, 4))
    assert (by_clip > 0).tolist() == has_depth.tolist()
    # The mean is over the pixels of the clips that have depth, not over all.
    kept = [0, 1, 4, 5]
    torch.testing.assert_close(terms["local"], F.mse_loss(masks.local[kept], depth.flatten(0, 1)[kept]))
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(logits, label))
    assert (logits.grad.abs().sum(dim=1) > 0).all()


def test_no_clip_has_depth() -> None:
    logits, label, masks, depth = batch()
    loss, terms = DepthLoss()(logits, label, masks, depth, torch.zeros(4, dtype=torch.bool))
    loss.backward()
    torch.testing.assert_close(loss, F.cross_entropy(logits, label))
    # Still in the graph: other processes of a distributed step wait for these gradients.
    assert masks.local.grad.abs().sum() == 0
    assert terms["local"] == 0


def test_parts_of_a_cut_batch_add_up_to_the_whole() -> None:
    logits, label, masks, depth = batch()
    has_depth = torch.tensor([True, True, True, False])
    loss = DepthLoss()
    whole, _ = loss(logits, label, masks, depth, has_depth)
    counts = Counts(4, 3)
    pieces = [
        loss(logits[a:b], label[a:b], Masks(*(m[2 * a : 2 * b] for m in masks)), depth[a:b], has_depth[a:b], counts)[0]
        for a, b in [(0, 1), (1, 4)]
    ]
    torch.testing.assert_close(sum(pieces), whole)


@pytest.mark.parametrize("missing", ["local", "global"])
def test_one_decoder_alone(missing: str) -> None:
    logits, label, masks, depth = batch()
    alone = Masks(None, masks.global_) if missing == "local" else Masks(masks.local, None)
    loss, terms = DepthLoss(LossWeights(1, 2, 3))(logits, label, alone, depth, torch.ones(4, dtype=torch.bool))
    term, weight = (terms["global"], 3) if missing == "local" else (terms["local"], 2)
    torch.testing.assert_close(loss, F.cross_entropy(logits, label) + weight * term)
    assert terms[missing] == 0


def test_without_masks_it_is_cross_entropy() -> None:
    logits, label, _, _ = batch()
    torch.testing.assert_close(DepthLoss()(logits, label)[0], F.cross_entropy(logits, label))


def test_bf16_masks_are_compared_in_full_precision() -> None:
    logits, label, masks, depth = batch()
    low = Masks(masks.local.bfloat16(), None)
    _, terms = DepthLoss()(logits, label, low, depth, torch.ones(4, dtype=torch.bool))
    assert terms["local"].dtype == torch.float32
    torch.testing.assert_close(terms["local"], F.mse_loss(low.local.float(), depth.flatten(0, 1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"has_depth": lambda has: has[:, None]}, r"has_depth of 4 clips is of shape \(4, 1\); give one bool a clip"),
        ({"has_depth": lambda has: None}, r"the decoders need has_depth \(N,\)"),
        ({"depth": lambda depth: None}, r"the decoders need depth \(N, T, 1, H, W\)"),
        ({"depth": lambda depth: depth[:, :, 0]}, r"depth of 4 clips is torch.float32 \(4, 2, 16, 16\); give"),
        ({"depth": lambda depth: depth.expand(4, 2, 3, 16, 16)}, r"is torch.float32 \(4, 2, 3, 16, 16\); give"),
        ({"depth": lambda depth: (depth * 255).byte()}, r"is torch.uint8 \(4, 2, 1, 16, 16\); give floats in \[0, 1\]"),
        ({"depth": lambda depth: depth[:1]}, r"depth of 4 clips is torch.float32 \(1, 2, 1, 16, 16\)"),
        ({"depth": lambda depth: depth[:, :1]}, r"maps of 8 frames, but depth has 4 \(4 clips of 1\)"),
        ({"local": lambda mask: mask[:1]}, r"the local decoder read maps of 1 frames, but depth has 8 .* in one call"),
        ({"global_": lambda mask: mask[:1]}, "the global decoder read maps of 1 frames"),
    ],
)
def test_shapes_that_would_be_broadcast_are_refused(change: dict, message: str) -> None:
    logits, label, masks, depth = batch()
    given = {"depth": depth, "has_depth": torch.ones(4, dtype=torch.bool), **masks._asdict()}
    given |= {name: other(given[name]) for name, other in change.items()}
    with pytest.raises(ModelError, match=message):
        DepthLoss()(logits, label, Masks(given["local"], given["global_"]), given["depth"], given["has_depth"])
