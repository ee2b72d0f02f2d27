"""Compares an exported file with its network, in numbers, on the same clips."""

import math
from dataclasses import dataclass

import numpy as np

from dynagest.errors import ExportError
from dynagest.export.clips import ClipSet
from dynagest.predictor import ClipNetwork
from dynagest.runtimes.exported import ExportedStream, stream_logits
from dynagest.runtimes.model_file import Precision
from dynagest.runtimes.torch_network import TorchStream


@dataclass(frozen=True)
class Tolerance:
    """How far an exported network may be from PyTorch.

    ``difference``: the largest difference of a logit, divided by the logits' standard deviation, at most.
    ``typical``: the root mean square of the differences, divided likewise, at most. ``agreement``: the share of answers
    with the same best class, at least. ``drop``: the loss of accuracy as a share, at most; but ``answers`` may be lost
    whatever share they are, because among few clips a single one is more than ``drop``.
    """

    difference: float
    typical: float
    agreement: float
    drop: float
    answers: int = 1


# fp32 differs by rounding alone, about 1e-5 in deep networks, which can still decide near ties between classes. Lower
# precisions are held to the typical difference, because the largest of thousands is an outlier that grows with the
# number of clips. Measured: trained networks, clips and streams, 0.004 in bf16 and 0.014 to 0.053 in int8; a network
# with random weights 0.02 in bf16. Logits that lose half of their height, and so the confidence that events need, come
# to 0.5 and more.
TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(1e-3, 1e-3, 0.99, 0.01),
    "bf16": Tolerance(math.inf, 0.1, 0.95, 0.01),
    "int8": Tolerance(math.inf, 0.3, 0.90, 0.02),
}


@dataclass(frozen=True)
class ClipRunner:
    """Runs clips through a network, one at a time."""

    network: ClipNetwork

    def logits(self, clips: np.ndarray) -> np.ndarray:
        """Clips (n, T, 3, s, s) -> logits (n, K)."""
        return np.concatenate([self.network.logits(clip[None]) for clip in clips])

    def labels(self, clips: ClipSet) -> np.ndarray:
        """The label of each row of ``logits``."""
        return clips.labels


@dataclass(frozen=True)
class StreamRunner:
    """Runs clips through a network of streams; each clip starts a new stream."""

    network: ExportedStream | TorchStream

    def logits(self, clips: np.ndarray) -> np.ndarray:
        """Clips (n, T, 3, s, s) -> the logits after every frame (n * T, K)."""
        return np.concatenate([stream_logits(self.network, clip) for clip in clips])

    def labels(self, clips: ClipSet) -> np.ndarray:
        """The label of each row of ``logits``; -1 before the last frame, when a gesture need not be recognised yet."""
        labels = np.full(clips.clips.shape[:2], -1)
        labels[:, -1] = clips.labels
        return labels.reshape(-1)


Runner = ClipRunner | StreamRunner


@dataclass(frozen=True)
class Comparison:
    """The comparison of a network in PyTorch and in a file, from ``rows`` answers of each to the same clips.

    For ``difference``, ``typical`` and ``agreement`` see ``Tolerance``. The accuracies are over the answers whose label
    the network knows, ``labelled`` in number, ``None`` if there is none.
    """

    rows: int
    labelled: int
    difference: float
    typical: float
    agreement: float
    accuracy_torch: float | None
    accuracy_file: float | None

    @classmethod
    def of(cls, expected: np.ndarray, actual: np.ndarray, labels: np.ndarray) -> "Comparison":
        """Compare the logits (n, K) of PyTorch and of the file; ``labels`` (n,) are -1 where unknown."""
        known = labels >= 0
        apart = np.abs(expected - actual) / max(float(expected.std()), 1e-12)
        best_expected, best_actual = expected.argmax(axis=1), actual.argmax(axis=1)

        def accuracy(best: np.ndarray) -> float | None:
            return float((best == labels)[known].mean()) if known.any() else None

        return cls(
            rows=len(expected),
            labelled=int(known.sum()),
            difference=float(apart.max()),
            typical=float(np.sqrt(np.square(apart).mean())),
            agreement=float((best_expected == best_actual).mean()),
            accuracy_torch=accuracy(best_expected),
            accuracy_file=accuracy(best_actual),
        )

    def check(self, tolerance: Tolerance, precision: Precision) -> None:
        """Raise ``ExportError``, with the numbers, if the two are further apart than ``tolerance`` allows."""
        drop = (self.accuracy_torch or 0.0) - (self.accuracy_file or 0.0)
        faults = []
        # Negated comparisons, so that NaN is a fault.
        if not self.difference <= tolerance.difference:
            faults.append(
                f"logits differ by {self.difference:.2g} of their spread, {tolerance.difference:g} is allowed"
            )
        elif not self.typical <= tolerance.typical:
            faults.append(
                f"logits typically differ by {self.typical:.2g} of their spread, {tolerance.typical:g} is allowed"
            )
        if not self.agreement >= tolerance.agreement:
            faults.append(
                f"the best class is the same for {self.agreement:.1%}, at least {tolerance.agreement:.0%} must"
            )
        lost = round(drop * self.labelled)
        if not drop <= tolerance.drop and lost > tolerance.answers:
            faults.append(
                f"accuracy falls from {self.accuracy_torch:.1%} to {self.accuracy_file:.1%} (by {lost} of "
                f"{self.labelled} answers), {100 * tolerance.drop:g} points are allowed (--drop)"
            )
        if faults:
            advice = {
                "fp32": "please report this with the name of the network",
                "bf16": "export in fp32",
                "int8": "calibrate on clips like those that it is for (--data), or on fewer or more of them (--clips): "
                "ranges are the largest values seen, so more may do worse; or export in bf16 (--to openvino) or fp32",
            }[precision]
            raise ExportError(
                f"the {precision} file does not agree with PyTorch on {self.rows} answers, so it was removed: "
                f"{'; '.join(faults)}. What to do: {advice}"
            )
