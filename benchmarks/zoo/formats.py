"""Hand-made: other element types, models that are quantized already, old operator sets, operators of ONNX Runtime."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.zoo.layers import HEAD, plain_cnn
from benchmarks.zoo.specimen import Specimen, made, written

T = onnx.TensorProto


# ── element types ────────────────────────────────────────────────────────────────────────────────────────────────────


def of_type(model: onnx.ModelProto, element: int) -> onnx.ModelProto:
    """The same model in another type of float, inputs and outputs too."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = element
    return with_weights_of(model, element)


def with_weights_of(model: onnx.ModelProto, element: int) -> onnx.ModelProto:
    """The same model with its weights in another type of float."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    return model


def half() -> onnx.ModelProto:
    return of_type(plain_cnn(), T.FLOAT16)


def double() -> onnx.ModelProto:
    return of_type(plain_cnn(), T.DOUBLE)


def brain() -> onnx.ModelProto:
    """bfloat16 weights that are cast to float32 where they are used."""
    text = f"""{HEAD} brain (float[N,64] x) => (float[N,64] y) {{
        f = Cast <to=1> (w1)
        y = MatMul (x, f)
    }}"""
    return with_weights_of(made(text, {"w1": (64, 64)}), T.BFLOAT16)


def half_inside() -> onnx.ModelProto:
    """float16 inside, float32 at inputs and outputs, as converters leave it."""
    text = f"""{HEAD} inside (float[N,3,16,16] x) => (float[N,32,16,16] y) {{
        h = Cast <to=10> (x)
        a = Conv <pads=[1,1,1,1]> (h, w1)
        b = Relu (a)
        c = Conv <pads=[1,1,1,1]> (b, w2)
        y = Cast <to=1> (c)
    }}"""
    return with_weights_of(made(text, {"w1": (32, 3, 3, 3), "w2": (32, 32, 3, 3)}), T.FLOAT16)


def partly_half() -> onnx.ModelProto:
    """One layer in float32, one in float16."""
    text = f"""{HEAD} both (float[N,64] x) => (float[N,64] y) {{
        a = MatMul (x, w1)
        h = Cast <to=10> (a)
        b = MatMul (h, w2)
        y = Cast <to=1> (b)
    }}"""
    model = made(text, {"w1": (64, 64), "w2": (64, 64)})
    second = model.graph.initializer[1]
    second.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(second).astype(np.float16), second.name))
    return model


def integers() -> onnx.ModelProto:
    text = f"""{HEAD} integers (int64[N,8] x) => (int64[N,4] y) {{ y = MatMul (x, w) }}"""
    return made(text, {"w": np.arange(32).reshape(8, 4)})


def bytes_in() -> onnx.ModelProto:
    """An image of bytes, normalized inside."""
    text = f"""{HEAD} image (uint8[N,16,16,3] x) => (float[N,32,16,16] y) {{
        f = Cast <to=1> (x)
        t = Transpose <perm=[0,3,1,2]> (f)
        mean = Constant <value_float = 127.5> ()
        s = Sub (t, mean)
        d = Div (s, mean)
        y = Conv <pads=[1,1,1,1]> (d, w1)
    }}"""
    return made(text, {"w1": (32, 3, 3, 3)})


# ── quantized already ────────────────────────────────────────────────────────────────────────────────────────────────

GRID = "scale = Constant <value_float = 0.05> ()\n zero = Constant <value = uint8 {128}> ()\n"


def quantize_and_dequantize() -> onnx.ModelProto:
    text = f"""{HEAD} qdq (float[N,3,16,16] x) => (float[N,32,16,16] y) {{ {GRID}
        q = QuantizeLinear (x, scale, zero)
        d = DequantizeLinear (q, scale, zero)
        w = DequantizeLinear (wq, scale)
        y = Conv <pads=[1,1,1,1]> (d, w)
    }}"""
    return made(text, {"wq": np.random.default_rng(0).integers(-9, 9, (32, 3, 3, 3)).astype(np.int8)})


def quantized_operators() -> onnx.ModelProto:
    text = f"""{HEAD} qoperator (float[N,3,16,16] x) => (float[N,32,16,16] y) {{ {GRID}
        q = QuantizeLinear (x, scale, zero)
        c = QLinearConv <pads=[1,1,1,1]> (q, scale, zero, wq, scale, wz, scale, zero)
        y = DequantizeLinear (c, scale, zero)
    }}"""
    weights = np.random.default_rng(0).integers(-9, 9, (32, 3, 3, 3)).astype(np.int8)
    return made(text, {"wq": weights, "wz": np.array(0, np.int8)})


def four_bit_products() -> onnx.ModelProto:
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> nbits (float[N,64] x) => (float[N,64] y) {
        m = com.microsoft.MatMulNBits <K=64, N=64, bits=4, block_size=32> (x, packed, scales)
        y = MatMul (m, w)
    }"""
    generator = np.random.default_rng(0)
    packed = generator.integers(0, 255, (64, 2, 16)).astype(np.uint8)
    return made(text, {"packed": packed, "scales": np.full(128, 0.02, "f4"), "w": (64, 64)})


def eight_bit_weights() -> onnx.ModelProto:
    """Only weights in 8 bits; the computation is float."""
    text = f"""{HEAD} weights (float[N,64] x) => (float[N,64] y) {{
        scale = Constant <value_float = 0.01> ()
        w = DequantizeLinear (wq, scale)
        y = MatMul (x, w)
    }}"""
    return made(text, {"wq": np.random.default_rng(0).integers(-99, 99, (64, 64)).astype(np.int8)})


# ── old operator sets ────────────────────────────────────────────────────────────────────────────────────────────────


def weights_as_inputs(opset: int) -> onnx.ModelProto:
    """Opset 7 to 9: every initializer is an input as well, shapes go through Reshape, Dropout has a ratio."""
    text = f"""<ir_version: 3, opset_import: ["" : {opset}]> old (float[1,3,16,16] x) => (float[1,10] y) {{
        a = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w1, b1)
        n = BatchNormalization (a, scale, b1, b1, scale)
        r = Relu (n)
        p, mask = Dropout <ratio=0.5> (r)
        l = LRN <size=5> (p)
        m = AveragePool <kernel_shape=[16,16]> (l)
        f = Reshape (m, shape)
        g = Gemm <transB=1> (f, w2, b2)
        c = Clip <min=0.0, max=6.0> (g)
        y = Softmax (c)
    }}"""
    shape, one = np.array([1, 16]), np.ones(16, "f4")
    model = made(text, {"w1": (16, 3, 3, 3), "b1": (16,), "scale": one, "w2": (10, 16), "b2": (10,), "shape": shape})
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return model


def very_old() -> onnx.ModelProto:
    """Opset 6: the shape is an attribute, Add broadcasts along an axis, BatchNormalization says is_test."""
    text = """<ir_version: 3, opset_import: ["" : 6]> ancient (float[1,3,16,16] x) => (float[1,4096] y) {
        a = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w1)
        b = Add <broadcast=1, axis=1> (a, b1)
        n = BatchNormalization <is_test=1> (b, one, b1, b1, one)
        r = Relu (n)
        y = Flatten (r)
    }"""
    model = made(text, {"w1": (16, 3, 3, 3), "b1": (16,), "one": np.ones(16, "f4")})
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return model


def old_operators() -> onnx.ModelProto:
    """Opset 9 with what changed since: Upsample, Slice, Pad, ReduceSum, Squeeze, TopK, Split by attributes."""
    text = """<ir_version: 4, opset_import: ["" : 9]> changed (float[1,8,8,8] x)
        => (float[1,4] best, int64[1,4] which) {
        p = Pad <pads=[0,0,1,1,0,0,1,1]> (x)
        a = Conv (p, w1)
        u = Upsample <mode="nearest"> (a, factor)
        s = Slice <axes=[2,3], starts=[0,0], ends=[8,8]> (u)
        d = Sum (s, x)
        f, g = Split <axis=1, split=[4,4]> (d)
        c = Conv (f, w2)
        r = ReduceSum <axes=[2,3], keepdims=1> (c)
        q = Squeeze <axes=[2,3]> (r)
        l = Unsqueeze <axes=[1]> (q)
        h = Squeeze <axes=[1]> (l)
        e = Clip <min=-1.0, max=1.0> (h)
        m = MatMul (e, w3)
        best, which = TopK <k=4> (m)
    }"""
    return made(text, {"w1": (8, 8, 3, 3), "factor": np.array([1, 1, 2, 2], "f4"), "w2": (16, 4, 1, 1), "w3": (16, 16)})


def training_leftovers() -> onnx.ModelProto:
    """Opset 12 with training outputs of Dropout and a mask that somebody reads."""
    text = """<ir_version: 6, opset_import: ["" : 12]> leftovers (float[N,64] x) => (float[N,64] y, bool[N,64] mask) {
        a = MatMul (x, w1)
        d, mask = Dropout (a)
        y = Clip (d, low)
    }"""
    return made(text, {"w1": (64, 64), "low": np.array(0, "f4")})


# ── ONNX Runtime's own operators ─────────────────────────────────────────────────────────────────────────────────────


def fused_operators() -> onnx.ModelProto:
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> fused (float[N,3,16,16] x, float[N,4,64] t)
        => (float[N,32,16,16] y, float[N,4,64] u) {
        c = com.microsoft.FusedConv <activation="Relu", pads=[1,1,1,1]> (x, w1, b1)
        y = Conv <pads=[1,1,1,1]> (c, w2)
        n = com.microsoft.SkipLayerNormalization (t, t, scale, scale)
        a = com.microsoft.Attention <num_heads=4> (n, qkv, bias)
        g = com.microsoft.FastGelu (a, scale)
        u = MatMul (g, w3)
    }"""
    weights = {"w1": (32, 3, 3, 3), "b1": (32,), "w2": (32, 32, 3, 3), "scale": np.ones(64, "f4"), "w3": (64, 64)}
    return made(text, weights | {"qkv": (64, 192), "bias": (192,)})


def unknown_domain() -> onnx.ModelProto:
    return made("""<ir_version: 8, opset_import: ["" : 17, "my.company" : 1]> own (float[N,4] x) => (float[N,4] y) {
        y = my.company.Magic (x)
    }""")


def sparse_weights() -> onnx.ModelProto:
    text = f"""{HEAD} sparse (float[N,64] x) => (float[N,32] y) {{
        h = MatMul (x, w1)
        y = MatMul (h, w2)
    }}"""
    model = made(text, {"w1": (64, 64)})
    values = numpy_helper.from_array(np.ones(40, "f4"), "w2")
    indices = numpy_helper.from_array(np.arange(0, 2000, 50), "w2_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [64, 32]))
    return model


def specimens() -> list[Specimen]:
    return written(
        {
            "float16 CNN": half,
            "float16 inside, float32 outside": half_inside,
            "one layer float16, one float32": partly_half,
            "bfloat16 weights behind Cast": brain,
            "float64 CNN": double,
            "integers only": integers,
            "image of bytes": bytes_in,
            "QDQ CNN": quantize_and_dequantize,
            "QLinearConv CNN": quantized_operators,
            "MatMulNBits and a float product": four_bit_products,
            "8-bit weights behind DequantizeLinear": eight_bit_weights,
            "opset 7, weights also inputs": lambda: weights_as_inputs(7),
            "opset 8, weights also inputs": lambda: weights_as_inputs(8),
            "opset 9, weights also inputs": lambda: weights_as_inputs(9),
            "opset 6": very_old,
            "opset 9, operators that changed since": old_operators,
            "opset 12, Dropout with its mask": training_leftovers,
            "operators of ONNX Runtime": fused_operators,
            "operator of an unknown domain": unknown_domain,
            "sparse weights": sparse_weights,
        },
        "hand",
    )
