"""Takes channels out of a graph: positions of weights, and the numbers in the graph that depended on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from engine.graph import Names, attribute, copied, drop_unused, operator_of, replace_list
from engine.prune.channels import Ids
from engine.prune.rules.attention import ends_of_parts
from engine.prune.rules.parts import slices
from engine.prune.rules.shaping import shape_constant
from engine.prune.walk import Axes, Axis, Walk

Mask = NDArray[np.bool_]


@dataclass
class Surgery:
    walk: Walk
    removed: Ids
    weights: Mapping[str, onnx.TensorProto]  #: what to cut instead of weights of the model
    model: onnx.ModelProto = field(init=False)
    added: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)  #: by the output of the node that they precede

    def __post_init__(self) -> None:
        self._stays = ~np.isin(self.walk.channels.all_roots(), self.removed)  #: by id
        changed = {name for name in self.walk.weights if self.is_changed(name) or name in self.weights}
        self.model = copied(self.walk.model, without=changed)
        self.names = Names.of(self.walk.model)
        for name in self.walk.weights:
            if name in changed:
                self.model.graph.initializer.append(self._cut(name))

    # ── axes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def stays(self, axis: Axis) -> Mask:
        """Which positions of an axis stay."""
        return self._stays[axis] if isinstance(axis, np.ndarray) else np.ones(1, bool)

    def axes(self, name: str) -> Axes:
        return self.walk.axes.get(name) or []

    def is_changed(self, name: str) -> bool:
        return any(not self.stays(axis).all() for axis in self.axes(name))

    def _matters(self, name: str) -> bool:
        """Whether a tensor, or the lengths that it holds, are no longer what they were."""
        behind = (number for number in self.walk.numbers.get(name, ()) if not isinstance(number, int))
        return self.is_changed(name) or any(not self.stays(axis).all() for axis in behind)

    def size(self, axis: Axis) -> int | str | None:
        """How long an axis is now."""
        return int(self.stays(axis).sum()) if isinstance(axis, np.ndarray) else axis

    def _cut(self, name: str) -> onnx.TensorProto:
        values = numpy_helper.to_array(self.weights.get(name, self.walk.weights[name]))
        for index, axis in enumerate(self.axes(name)):
            mask = self.stays(axis)
            if not mask.all():
                values = np.compress(mask, values, axis=index)
        return numpy_helper.from_array(np.ascontiguousarray(values), name)

    # ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def done(self) -> onnx.ModelProto:
        """The model without the channels."""
        graph = self.model.graph
        for node in graph.node:
            rewrite = REWRITES.get(operator_of(node))
            if rewrite and (any(map(self.is_changed, node.output)) or any(map(self._matters, node.input))):
                rewrite(self, node)
        replace_list(graph.node, [one for node in graph.node for one in (*self._before(node), node)])
        kept = [value for value in graph.value_info if not self.is_changed(value.name)]
        replace_list(graph.value_info, kept)
        drop_unused(self.model)
        return self.model

    def _before(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return self.added.get(node.output[0], []) if node.output else []

    def constant(self, values: np.ndarray, near: str) -> str:
        """A new initializer, by its name."""
        name = self.names.fresh(near)
        self.model.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def put(self, node: onnx.NodeProto, index: int, values: Sequence[int]) -> None:
        """Give a node's input other constant numbers."""
        name = self.constant(np.array(values, np.int64), f"{node.output[0]}_{index}")
        node.input.extend([""] * (index + 1 - len(node.input)))
        node.input[index] = name

    def set(self, node: onnx.NodeProto, name: str, value: int | Sequence[int] | None) -> None:
        """Give a node's attribute another value, or none."""
        replace_list(node.attribute, [entry for entry in node.attribute if entry.name != name])
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))


def _reshape(surgery: Surgery, node: onnx.NodeProto) -> None:
    after = [surgery.size(axis) for axis in surgery.axes(node.output[0])]
    written = shape_constant(surgery.axes(node.input[0]), after)
    assert written is not None, "a Reshape that cannot be written keeps its channels"
    surgery.set(node, "allowzero", None)
    surgery.put(node, 1, written)


def _split(surgery: Surgery, node: onnx.NodeProto) -> None:
    place = attribute(node, "axis", 0)
    surgery.set(node, "num_outputs", None)
    surgery.put(node, 1, [int(surgery.stays(surgery.axes(name)[place]).sum()) for name in node.output])


def _slice(surgery: Surgery, node: onnx.NodeProto) -> None:
    before = surgery.axes(node.input[0])
    cuts = slices(surgery.walk, node, len(before))
    ends = [_moved(surgery, before[axis], start, end) for axis, start, end, _ in cuts]
    columns = zip(*((*end, axis, step) for end, (axis, _, _, step) in zip(ends, cuts, strict=True)), strict=True)
    for index, column in enumerate(columns, start=1):  # all four of one type
        surgery.put(node, index, column)


def _moved(surgery: Surgery, axis: Axis, start: int, end: int) -> tuple[int, int]:
    """Where a cut begins and ends now."""
    mask = surgery.stays(axis)
    if mask.all():
        return start, end
    first, last, _ = slice(start, end).indices(len(mask))
    return int(mask[:first].sum()), int(mask[:last].sum())


def _gather(surgery: Surgery, node: onnx.NodeProto) -> None:
    before = surgery.axes(node.input[0])
    mask = surgery.stays(before[attribute(node, "axis", 0)])
    indices = surgery.walk.constant(node, 1)
    if indices is not None and not mask.all():
        places = np.cumsum(mask) - 1
        indices = indices % len(mask)
        surgery.put(node, 1, places[indices[mask[indices]]].tolist())


def _grouped(surgery: Surgery, node: onnx.NodeProto) -> None:
    """Depthwise convolutions have a group for each channel."""
    came = surgery.axes(node.input[0])[1]
    if isinstance(came, np.ndarray) and attribute(node, "group", 1) == len(came) > 1:
        surgery.set(node, "group", int(surgery.stays(came).sum()))


def _normalized_by_group(surgery: Surgery, node: onnx.NodeProto) -> None:
    left = _parts_left(surgery, surgery.axes(node.input[0])[1], attribute(node, "num_groups", 0))
    surgery.set(node, "num_groups", left)


def _recurrent(surgery: Surgery, node: onnx.NodeProto) -> None:
    surgery.set(node, "hidden_size", int(surgery.stays(surgery.axes(node.input[2])[2]).sum()))


def _resize(surgery: Surgery, node: onnx.NodeProto) -> None:
    after = surgery.axes(node.output[0])
    axes = attribute(node, "axes", None) or range(len(after))
    now = [surgery.size(after[axis]) for axis in axes]
    sizes = surgery.walk.constant(node, 3)
    if sizes is not None:
        sizes = [size if isinstance(size, int) else int(old) for size, old in zip(now, sizes, strict=True)]
        surgery.put(node, 3, sizes)
        return
    changed = np.array([not surgery.stays(after[axis]).all() for axis in axes])
    if len(node.input) > 3 and node.input[3] and changed.any():
        _put_among_computed(surgery, node, 3, changed, [size if isinstance(size, int) else 0 for size in now])


def _put_among_computed(surgery: Surgery, node: onnx.NodeProto, index: int, changed: Mask, lengths: list[int]) -> None:
    """Lengths that are computed as the model runs, but for those of axes that are narrower now."""
    output = node.output[0]
    condition = surgery.constant(changed, f"{output}_narrower")
    values = surgery.constant(np.array(lengths, np.int64), f"{output}_lengths")
    sizes = surgery.names.fresh(f"{output}_sizes")
    surgery.added[output] = [helper.make_node("Where", [condition, values, node.input[index]], [sizes])]
    node.input[index] = sizes


def _expand(surgery: Surgery, node: onnx.NodeProto) -> None:
    """Of axes that are narrower now, 1 leaves the length that they have."""
    before, numbers = surgery.axes(node.input[0]), surgery.walk.numbers[node.input[1]]
    own = [*[None] * (len(numbers) - len(before)), *before][-len(numbers) :]
    changed = np.array([not surgery.stays(axis).all() for axis in own])
    written = surgery.walk.constant(node, 1)
    if written is not None:
        surgery.put(node, 1, np.where(changed, 1, written).tolist())
    elif changed.any():
        _put_among_computed(surgery, node, 1, changed, [1] * len(numbers))


def _attention(surgery: Surgery, node: onnx.NodeProto) -> None:
    for index, name in ((0, "q_num_heads"), (1, "kv_num_heads")):
        axes, count = surgery.axes(node.input[index]), attribute(node, name, 0)
        if count:
            surgery.set(node, name, _parts_left(surgery, axes[1 if len(axes) == 4 else 2], count))


def _parts_left(surgery: Surgery, axis: Axis, parts: int) -> int:
    """Of so many that leave as a whole."""
    return int(surgery.stays(axis).reshape(parts, -1)[:, 0].sum())


def _attention_of_many_heads(surgery: Surgery, node: onnx.NodeProto) -> None:
    surgery.set(
        node, "num_heads", _parts_left(surgery, surgery.axes(node.input[0])[2], attribute(node, "num_heads", 0))
    )


def _attention_with_projection(surgery: Surgery, node: onnx.NodeProto) -> None:
    made = surgery.stays(surgery.axes(node.input[1])[1])
    parts = np.split(made, ends_of_parts(node, len(made)))
    heads = parts[0].reshape(attribute(node, "num_heads", 0), -1)
    surgery.set(node, "num_heads", int(heads[:, 0].sum()))
    surgery.set(node, "qkv_hidden_sizes", [int(part.sum()) for part in parts])


REWRITES: dict[str, Callable[[Surgery, onnx.NodeProto], None]] = {
    "Attention": _attention,
    "Conv": _grouped,
    "ConvTranspose": _grouped,
    "Expand": _expand,
    "GRU": _recurrent,
    "Gather": _gather,
    "GroupNormalization": _normalized_by_group,
    "LSTM": _recurrent,
    "RNN": _recurrent,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "com.microsoft.Attention": _attention_with_projection,
    "com.microsoft.MultiHeadAttention": _attention_of_many_heads,
}


def without(walk: Walk, removed: Ids, weights: Mapping[str, onnx.TensorProto] | None = None) -> onnx.ModelProto:
    """The model that was walked, without these channels; `weights` are taken instead of its own of the same names."""
    return Surgery(walk, removed, weights or {}).done()


def zeroed(walk: Walk, removed: Ids) -> onnx.ModelProto:
    """The model with zeros wherever a weight has one of these channels; its outputs are those of `without`.

    What reads a channel multiplies it by zero, so it does not matter that some of them are not zero themselves: the
    sigmoid of a bias of zero is one half. Where two activations are multiplied, what made them is zero as well.
    """
    model, gone = copied(walk.model, without=walk.weights), np.isin(walk.channels.all_roots(), removed)
    for name, weight in walk.weights.items():
        values = numpy_helper.to_array(weight).copy()
        for index, axis in enumerate(walk.axes[name] or ()):
            if isinstance(axis, np.ndarray):
                np.moveaxis(values, index, 0)[gone[axis]] = 0
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model
