"""Hand-made: layers and architectures in small, as exporters write them."""

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.zoo.specimen import Specimen, made, written

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def plain_cnn() -> onnx.ModelProto:
    text = f"""{HEAD} cnn (float[N,3,16,16] x) => (float[N,10] y) {{
        a = Conv <pads=[1,1,1,1]> (x, w1, b1)
        r = Relu (a)
        p = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r)
        c = Conv <pads=[1,1,1,1]> (p, w2)
        q = Relu (c)
        g = GlobalAveragePool (q)
        f = Flatten (g)
        y = Gemm <transB=1> (f, w3, b3)
    }}"""
    return made(
        text, {"w1": (32, 3, 3, 3), "b1": (32,), "w2": (64, 32, 3, 3), "w3": np.eye(10, 64, dtype="f4"), "b3": (10,)}
    )


def depthwise() -> onnx.ModelProto:
    text = f"""{HEAD} mobile (float[N,16,14,14] x) => (float[N,32,14,14] y) {{
        d = Conv <group=16, pads=[1,1,1,1]> (x, w1, b1)
        e = HardSwish (d)
        s = GlobalAveragePool (e)
        t = Conv (s, w2)
        u = HardSigmoid <alpha=0.16666667, beta=0.5> (t)
        v = Mul (e, u)
        y = Conv (v, w3)
    }}"""
    return made(text, {"w1": (16, 1, 3, 3), "b1": (16,), "w2": (16, 16, 1, 1), "w3": (32, 16, 1, 1)})


def residual() -> onnx.ModelProto:
    text = f"""{HEAD} block (float[N,16,12,12] x) => (float[N,16,12,12] y) {{
        a = Conv <pads=[1,1,1,1]> (x, w1)
        n = BatchNormalization (a, scale, shift, mean, variance)
        r = Relu (n)
        c = Conv <pads=[1,1,1,1]> (r, w2)
        s = Add (c, x)
        y = Relu (s)
    }}"""
    ones = np.ones(16, "f4")
    weights = {"w1": (16, 16, 3, 3), "w2": (16, 16, 3, 3), "scale": ones, "shift": (16,), "mean": (16,)}
    return made(text, {**weights, "variance": ones})


def odd_convolutions() -> onnx.ModelProto:
    text = f"""{HEAD} odd (float[N,8,24] x, float[N,4,6,8,8] v) => (float[N,12,C] y, float[N,6,D,H,W] z) {{
        a = Conv <dilations=[2], pads=[2,2], group=2> (x, w1, b1)
        b = Conv <auto_pad="SAME_UPPER", strides=[2]> (a, w2)
        y = ConvTranspose <strides=[2], output_padding=[1]> (b, w3)
        z = Conv (v, w4)
    }}"""
    return made(text, {"w1": (16, 4, 3), "b1": (16,), "w2": (12, 16, 3), "w3": (12, 12, 3), "w4": (6, 4, 3, 3, 3)})


def attention() -> onnx.ModelProto:
    text = f"""{HEAD} attention (float[N,T,64] x) => (float[N,T,64] y) {{
        q = MatMul (x, wq)
        k = MatMul (x, wk)
        v = MatMul (x, wv)
        kt = Transpose <perm=[0,2,1]> (k)
        s = MatMul (q, kt)
        p = Softmax <axis=-1> (s)
        o = MatMul (p, v)
        d = Add (o, x)
        y = LayerNormalization (d, scale, shift)
    }}"""
    square = dict.fromkeys(("wq", "wk", "wv"), (64, 64))
    return made(text, {**square, "scale": np.ones(64, "f4"), "shift": (64,)})


def token_model() -> onnx.ModelProto:
    text = """<ir_version: 9, opset_import: ["" : 20]> text (int64[N,T] input_ids, int64[N,T] attention_mask)
        => (float[N,4] logits) {
        e = Gather (table, input_ids)
        m = Cast <to=1> (attention_mask)
        one = Constant <value = float {1.0}> ()
        huge = Constant <value = float {-3.4e38}> ()
        i = Sub (one, m)
        bias = Mul (i, huge)
        h = MatMul (e, w1)
        g = Gelu (h)
        s = ReduceSum <keepdims=0> (g, axis)
        b = Add (s, bias)
        p = Softmax (b)
        axes = Constant <value_ints = [1]> ()
        u = Unsqueeze (p, axes)
        c = MatMul (u, g)
        f = Squeeze (c, axes)
        logits = Gemm (f, w2, b2)
    }"""
    axis = np.array([2])
    return made(text, {"table": (100, 48), "w1": (48, 64), "axis": axis, "w2": (64, 4), "b2": (4,)})


def recurrent() -> onnx.ModelProto:
    text = f"""{HEAD} recurrent (float[T,N,16] x, float[1,N,32] h0) => (float[T,D,N,32] y, float[1,N,32] hn) {{
        a, b, c = LSTM <hidden_size=32, direction="bidirectional"> (x, wl, rl)
        t = Transpose <perm=[0,2,1,3]> (a)
        s = Constant <value_ints = [0, 0, 64]> ()
        f = Reshape (t, s)
        y, g = GRU <hidden_size=32, linear_before_reset=1> (f, wg, rg, , , h0)
        u, hn = RNN <hidden_size=32> (f, wr, rr, , , h0)
    }}"""
    lstm = {"wl": (2, 128, 16), "rl": (2, 128, 32)}
    return made(text, lstm | {"wg": (1, 96, 64), "rg": (1, 96, 32), "wr": (1, 32, 64), "rr": (1, 32, 32)})


def gemm_forms() -> onnx.ModelProto:
    text = f"""{HEAD} gemm (float[64,N] x, float[N,64] z) => (float[N,32] y, float[8,N] left, float[N] line) {{
        a = Gemm <transA=1, alpha=0.5> (x, w1, c1)
        b = Gemm <beta=2.0, alpha=0.25> (z, w1, c2)
        y = Add (a, b)
        left = MatMul (w2, x)
        line = MatMul (z, w3)
    }}"""
    full = np.ones((1, 32), "f4")
    return made(text, {"w1": (64, 32), "c1": full, "c2": (32,), "w2": (8, 64), "w3": (64,)})


def batched_products() -> onnx.ModelProto:
    text = f"""{HEAD} products (float[N,4,6,32] x) => (float[N,4,6,16] y, float[N,6,16] e) {{
        y = MatMul (x, w1)
        e = Einsum <equation = "nhti,hio->nto"> (x, w1)
    }}"""
    return made(text, {"w1": (4, 32, 16)})


def shared_weights() -> onnx.ModelProto:
    text = f"""{HEAD} tied (int64[N,T] tokens) => (float[N,T,64] y, float[64,64] w) {{
        e = Gather (table, tokens)
        h = MatMul (e, wt)
        k = MatMul (h, wu)
        l = MatMul (k, wt)
        back = Transpose <perm=[1,0]> (table)
        y = MatMul (l, back)
        w = Identity (wu)
    }}"""
    return made(text, {"table": (64, 64), "wt": (64, 64), "wu": (64, 64)})


def outlier() -> onnx.ModelProto:
    """One channel of the activations is a thousand times larger than the others."""
    weight = np.random.default_rng(1).standard_normal((64, 64)).astype("f4") / 8
    scale = np.ones(64, "f4")
    scale[3] = 1000
    text = f"""{HEAD} outlier (float[N,64] x) => (float[N,64] y) {{
        m = Mul (x, scale)
        a = MatMul (m, w1)
        r = Relu (a)
        y = MatMul (r, w2)
    }}"""
    return made(text, {"scale": scale, "w1": weight, "w2": (64, 64)})


def detector() -> onnx.ModelProto:
    """Boxes and scores through NonMaxSuppression: how many come out depends on the data."""
    text = f"""{HEAD} detector (float[N,3,32,32] image) => (int64[K,3] chosen, float[N,M,4] boxes) {{
        c = Conv <strides=[4,4]> (image, w1)
        r = Relu (c)
        shape = Constant <value_ints = [0, 8, -1]> ()
        f = Reshape (r, shape)
        t = Transpose <perm=[0,2,1]> (f)
        l = MatMul (t, w2)
        boxes = Sigmoid (l)
        k = MatMul (t, w3)
        s = Transpose <perm=[0,2,1]> (k)
        most = Constant <value_ints = [5]> ()
        chosen = NonMaxSuppression (boxes, s, most)
    }}"""
    return made(text, {"w1": (8, 3, 4, 4), "w2": (8, 4), "w3": (8, 2)})


def upscaler() -> onnx.ModelProto:
    text = f"""{HEAD} upscaler (float[N,3,H,W] x) => (float[N,3,H2,W2] y) {{
        a = Conv <pads=[1,1,1,1]> (x, w1)
        s = PRelu (a, slope)
        c = Conv <pads=[1,1,1,1]> (s, w2)
        d = DepthToSpace <blocksize=2> (c)
        factor = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> ()
        u = Resize <mode = "nearest"> (x, , factor)
        y = Add (d, u)
    }}"""
    return made(text, {"w1": (32, 3, 3, 3), "slope": (32, 1, 1), "w2": (12, 32, 3, 3)})


def normalized_audio() -> onnx.ModelProto:
    text = f"""{HEAD} audio (float[N,L] wave) => (float[N,B,F] y) {{
        one = Constant <value_ints = [1]> ()
        w = Unsqueeze (wave, one)
        zeros = Constant <value_ints = [0, 0, 8, 0, 0, 8]> ()
        p = Pad <mode = "reflect"> (w, zeros)
        c = Conv <strides=[8]> (p, basis)
        sq = Mul (c, c)
        small = Constant <value_float = 1e-6> ()
        f = Max (sq, small)
        y = Log (f)
    }}"""
    return made(text, {"basis": (32, 1, 16)})


def modern_decoder() -> onnx.ModelProto:
    """Operators of opset 23: Attention, RMSNormalization, RotaryEmbedding."""
    text = """<ir_version: 10, opset_import: ["" : 23]> decoder (float[N,T,64] x) => (float[N,T,64] y) {
        n = RMSNormalization (x, scale)
        q = MatMul (n, wq)
        k = MatMul (n, wk)
        v = MatMul (n, wv)
        a = Attention <q_num_heads=4, kv_num_heads=4, is_causal=1> (q, k, v)
        o = MatMul (a, wo)
        y = Add (o, x)
    }"""
    return made(text, {"scale": np.ones(64, "f4"), **dict.fromkeys(("wq", "wk", "wv", "wo"), (64, 64))})


def weights_in_nodes() -> onnx.ModelProto:
    """All weights stand in Constant nodes, none in initializers."""
    model = plain_cnn()
    constants = [
        onnx.helper.make_node(
            "Constant", [], [tensor.name], value=numpy_helper.from_array(numpy_helper.to_array(tensor))
        )
        for tensor in model.graph.initializer
    ]
    nodes = [*constants, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def specimens() -> list[Specimen]:
    return written(
        {
            "plain CNN": plain_cnn,
            "depthwise with squeeze-and-excite": depthwise,
            "residual block with batch normalization": residual,
            "1D, 3D, dilated, grouped, transposed convolutions": odd_convolutions,
            "attention with layer normalization": attention,
            "tokens and mask to logits": token_model,
            "LSTM, GRU and RNN with state": recurrent,
            "Gemm in all its forms": gemm_forms,
            "products with a batch of weights, Einsum": batched_products,
            "tied weights, one of them an output": shared_weights,
            "an outlier channel": outlier,
            "detector with NonMaxSuppression": detector,
            "upscaler of any size": upscaler,
            "audio filter bank": normalized_audio,
            "decoder of opset 23": modern_decoder,
            "weights in Constant nodes": weights_in_nodes,
        },
        "hand",
    )
