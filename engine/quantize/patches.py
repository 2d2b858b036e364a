"""What a layer multiplies its weights by: rows of inputs, and their second moments on calibration samples.

    y = W x        x one position's patch for a convolution, one row for a matrix product
    H = E[x xᵀ]    so that the error of other weights is E|(Ŵ - W) x|² = tr((Ŵ - W) H (Ŵ - W)ᵀ)

Samples stream through ONNX Runtime one by one, and only sums are kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from engine.graph import attribute, copied, drop_unused, give_out
from engine.quantize.calibrate import Calibrator

ROWS_PER_RUN = 128  #: positions of one sample that are looked at, evenly spaced
MOST_INPUTS = 3072  #: of a row; with more, its moments take too long
MOST_BYTES = 256 << 20  #: of sums in one pass over the samples

Moments = NDArray[np.float32]


@dataclass(frozen=True)
class Patch:
    """How a layer reads its input; layers that read the same share its moments."""

    tensor: str
    inputs: int  #: of one row
    groups: int = 1
    kernel: tuple[int, ...] = ()  #: empty for a matrix product
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()

    @property
    def bytes_of_sums(self) -> int:
        return self.groups * self.inputs**2 * 8

    def rows(self, values: np.ndarray) -> NDArray[np.float32]:
        """(groups, positions, inputs) of the values of one run."""
        values = values.astype(np.float32, copy=False)
        if not self.kernel:
            rows = values.reshape(1, -1, self.inputs)
            return rows[:, :: _step(rows.shape[1])]
        rank = len(self.kernel)
        around = [(0, 0), (0, 0), *zip(self.pads[:rank], self.pads[rank:], strict=True)]
        spans = [(size - 1) * dilation + 1 for size, dilation in zip(self.kernel, self.dilations, strict=True)]
        windows = sliding_window_view(np.pad(values, around), spans, axis=tuple(range(2, 2 + rank)))
        strided = windows[(slice(None), slice(None), *(slice(None, None, step) for step in self.strides))]
        thinned = strided[(..., *(slice(None, None, dilation) for dilation in self.dilations))]
        places = np.indices((len(values), *thinned.shape[2 : 2 + rank])).reshape(1 + rank, -1)
        batch, *positions = places[:, :: _step(places.shape[1])]
        chosen = thinned[(batch, slice(None), *positions)]  # (positions, channels, kernel …)
        return chosen.reshape(len(chosen), self.groups, -1).swapaxes(0, 1)


def patch_of(layer: onnx.NodeProto, shape: Sequence[int]) -> Patch | None:
    """How the layer with a weight of this shape reads its input; None where that is not known or too much."""
    if layer.op_type == "Conv":
        rank = len(shape) - 2
        if attribute(layer, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            return None
        found = Patch(
            layer.input[0],
            int(np.prod(shape[1:])),
            attribute(layer, "group", 1),
            tuple(shape[2:]),
            tuple(attribute(layer, "strides", [1] * rank)),
            tuple(attribute(layer, "pads", [0] * (2 * rank))),
            tuple(attribute(layer, "dilations", [1] * rank)),
        )
    elif len(shape) == 2 and not attribute(layer, "transA", 0):
        found = Patch(layer.input[0], shape[1 if attribute(layer, "transB", 0) else 0])
    else:
        return None
    return found if found.inputs <= MOST_INPUTS else None


def second_moments(calibrator: Calibrator, patches: Sequence[Patch]) -> dict[Patch, Moments]:
    """(groups, inputs, inputs) of each patch; without those that hold infinity or NaN."""
    found: dict[Patch, Moments] = {}
    for some in _portions(dict.fromkeys(patches)):
        sums = {patch: np.zeros((patch.groups, patch.inputs, patch.inputs)) for patch in some}
        counts = dict.fromkeys(some, 0)
        for values in _values(calibrator, some):
            for patch in some:
                rows = patch.rows(values[patch.tensor])
                sums[patch] += rows.swapaxes(1, 2) @ rows
                counts[patch] += rows.shape[1]
        means = {patch: (total / max(counts[patch], 1)).astype(np.float32) for patch, total in sums.items()}
        found |= {patch: mean for patch, mean in means.items() if np.isfinite(mean).all()}
    return found


def _values(calibrator: Calibrator, patches: Sequence[Patch]) -> Iterator[dict[str, np.ndarray]]:
    """The tensors that are read, run after run."""
    names = list(dict.fromkeys(patch.tensor for patch in patches))
    graph = copied(calibrator.model)
    give_out(graph, names)
    drop_unused(graph)
    for values in calibrator.run(graph, names):
        yield dict(zip(names, values, strict=True))


def _portions(patches: Mapping[Patch, None]) -> Iterator[list[Patch]]:
    """Patches whose sums are not too large together."""
    portion: list[Patch] = []
    size = 0
    for patch in patches:
        if portion and size + patch.bytes_of_sums > MOST_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(patch)
        size += patch.bytes_of_sums
    if portion:
        yield portion


def _step(rows: int) -> int:
    """Between rows that are looked at; odd, so that it does not fall in step with the rows of an image."""
    return max(rows // ROWS_PER_RUN, 1) | 1
