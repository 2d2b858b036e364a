"""Times of small graphs: real runs, told apart by structure, kept for who comes later."""

from pathlib import Path

import numpy as np
import onnx

from engine.measure.layers import TABLE, LayerTimes, structure
from engine.recipe import Target
from tests.models import Net


def conv(width: int, *, seed: int = 0, stride: int = 1) -> onnx.ModelProto:
    net = Net(seed)
    x = net.input("x", [1, 64, 24, 24])
    net.op("Conv", x, net.weight(width, 64, 3, 3), pads=[1] * 4, strides=[stride] * 2, name="y")
    return net.output("y", [1, width, None, None]).model()


def test_a_layer_of_four_times_the_width_takes_more_than_twice_the_time() -> None:
    narrow, wide = LayerTimes(Target()).milliseconds([conv(16), conv(64)])
    assert 0 < 2 * narrow < wide


def test_values_of_weights_and_names_do_not_matter_but_shapes_and_attributes_do() -> None:
    assert structure(conv(16, seed=1)) == structure(conv(16, seed=2))
    renamed = conv(16)
    renamed.graph.node[0].name = "other"
    renamed.graph.node[0].output[0] = renamed.graph.output[0].name = "z"
    assert structure(renamed) == structure(conv(16))
    assert structure(conv(24)) != structure(conv(16))
    assert structure(conv(16, stride=2)) != structure(conv(16))


def test_a_shape_that_is_a_constant_matters() -> None:
    def reshaped(*shape: int) -> onnx.ModelProto:
        net = Net()
        net.op("Reshape", net.input("x", [1, 24]), net.constant(np.array(shape)), name="y")
        return net.output("y", list(shape)).model()

    assert structure(reshaped(4, 6)) != structure(reshaped(6, 4))


def test_what_was_timed_once_is_read_from_the_file(tmp_path: Path) -> None:
    first = LayerTimes(Target(), kept=tmp_path).milliseconds([conv(16)])
    later = LayerTimes(Target(), kept=tmp_path)
    later._timed = None  # nothing may be timed any more
    assert later.milliseconds([conv(16, seed=3)]) == first


def test_a_torn_file_is_left_aside_and_another_target_has_times_of_its_own(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text('{"a": ')
    times = LayerTimes(Target(), kept=tmp_path)
    assert times.milliseconds([conv(16)])[0] > 0
    assert times.key(conv(16)) != LayerTimes(Target(threads=2), kept=tmp_path).key(conv(16))


def test_a_graph_that_does_not_run_takes_forever_and_spares_the_others() -> None:
    broken = conv(16)
    broken.graph.node[0].op_type = "NoSuchOperator"
    sound, never = LayerTimes(Target()).milliseconds([conv(24), broken])
    assert 0 < sound < never == float("inf")
