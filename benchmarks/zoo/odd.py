"""Hand-made: graphs that are valid and still odd, as real exporters and real people make them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.zoo.layers import HEAD, plain_cnn
from benchmarks.zoo.specimen import Specimen, made, written

T = onnx.TensorProto


def branches() -> onnx.ModelProto:
    """Convolutions in both branches of an If; their weights stand in the outer graph."""
    text = f"""{HEAD} branches (float[N,8,10,10] x) => (float[N,M,8,8] y) {{
        m = ReduceMean <keepdims=0> (x)
        zero = Constant <value_float = 0.0> ()
        c = Greater (m, zero)
        z = Conv <pads=[1,1,1,1]> (x, w1)
        y = If (c) <
            then_branch = one () => (float[N,16,8,8] a) {{ a = Conv (z, w2) }},
            else_branch = other () => (float[N,16,8,8] b) {{ k = Conv (z, w2)
                b = Relu (k) }}>
    }}"""
    return made(text, {"w1": (16, 8, 3, 3), "w2": (16, 16, 3, 3)})


def loop() -> onnx.ModelProto:
    text = f"""{HEAD} loop (float[N,64] x) => (float[N,64] y) {{
        times = Constant <value_int = 3> ()
        go = Constant <value = bool {{1}}> ()
        y = Loop (times, go, x) <body = step (int64 i, bool c, float[N,64] h) => (bool d, float[N,64] g) {{
            d = Identity (c)
            m = MatMul (h, w1)
            g = Tanh (m)
        }}>
    }}"""
    return made(text, {"w1": (64, 64)})


def scan() -> onnx.ModelProto:
    text = f"""{HEAD} scan (float[T,64] x) => (float[64] last, float[T,64] all) {{
        h = Constant <value_floats = [{", ".join(["0.0"] * 64)}]> ()
        last, all = Scan <num_scan_inputs=1, body = step (float[64] s, float[64] t) => (float[64] n, float[64] o) {{
            m = MatMul (s, w1)
            a = Add (m, t)
            n = Tanh (a)
            o = Identity (n)
        }}> (h, x)
    }}"""
    return made(text, {"w1": (64, 64)})


def everything_inside_a_loop() -> onnx.ModelProto:
    """Weights, too, stand in the body; nothing outside of it can be quantized."""
    model = loop()
    body = next(attribute.g for node in model.graph.node for attribute in node.attribute if attribute.HasField("g"))
    body.initializer.extend(model.graph.initializer)
    del model.graph.initializer[:]
    return model


def scalars() -> onnx.ModelProto:
    text = f"""{HEAD} scalars (float[N,64] x, float gain, int64 shift) => (float[N,32] y, float total) {{
        g = Mul (x, gain)
        y = MatMul (g, w1)
        t = ReduceSum <keepdims=0> (y)
        f = Cast <to=1> (shift)
        total = Add (t, f)
    }}"""
    return made(text, {"w1": (64, 32)})


def many_outputs() -> onnx.ModelProto:
    """Outputs of several types, one of them read again inside, one an input passed through."""
    text = f"""{HEAD} outputs (float[N,64] x)
        => (float[N,48] h, float[N,10] y, int64[N] label, bool[N] sure, float[N,64] same) {{
        h = MatMul (x, w1)
        r = Relu (h)
        y = MatMul (r, w2)
        label = ArgMax <axis=1, keepdims=0> (y)
        m = ReduceMax <axes=[1], keepdims=0> (y)
        zero = Constant <value_float = 0.0> ()
        sure = Greater (m, zero)
        same = Identity (x)
    }}"""
    return made(text, {"w1": (64, 48), "w2": (48, 10)})


def wrong_output_shape() -> onnx.ModelProto:
    model = plain_cnn()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    return model


def wrong_value_info() -> onnx.ModelProto:
    model = plain_cnn()
    model.graph.value_info.append(helper.make_tensor_value_info("r", T.FLOAT, ["N", 32, 15, 15]))
    return model


def no_shapes() -> onnx.ModelProto:
    """Neither input nor output says its shape."""
    text = f"""{HEAD} shapeless (float[] x) => (float[] y) {{
        a = MatMul (x, w1)
        y = Add (a, b1)
    }}"""
    model = made(text, {"w1": (64, 64), "b1": (64,)})
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    return model


def negative_dimensions() -> onnx.ModelProto:
    model = plain_cnn()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    return model


def every_dimension_varies() -> onnx.ModelProto:
    text = f"""{HEAD} dynamic (float[batch,channels,height,width] x) => (float[a,b,c,d] y) {{
        a = Conv <pads=[1,1,1,1]> (x, w1)
        r = Relu (a)
        s = Shape (r)
        t = Shape (x)
        z = Constant <value_ints = [0]> ()
        n = Gather (t, z)
        k = Constant <value_ints = [-1, 4, 4]> ()
        to = Concat <axis=0> (n, k)
        y = Reshape (r, to)
    }}"""
    return made(text, {"w1": (16, 3, 3, 3)})


def odd_batch() -> onnx.ModelProto:
    model = plain_cnn()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    return model


def state() -> onnx.ModelProto:
    """A decoder's step with a cache that grows: past in, present out."""
    text = f"""{HEAD} step (float[B,1,64] x, float[B,past,64] cache) => (float[B,1,64] y, float[B,total,64] present) {{
        k = MatMul (x, w1)
        present = Concat <axis=1> (cache, k)
        t = Transpose <perm=[0,2,1]> (present)
        s = MatMul (x, t)
        p = Softmax (s)
        o = MatMul (p, present)
        y = MatMul (o, w2)
    }}"""
    return made(text, {"w1": (64, 64), "w2": (64, 64)})


def sequences() -> onnx.ModelProto:
    text = f"""{HEAD} sequences (float[2,64] x) => (seq(float[N,32]) parts, float[2,32] y) {{
        y = MatMul (x, w1)
        parts = SplitToSequence <axis=0> (y)
    }}"""
    return made(text, {"w1": (64, 32)})


def optional_input() -> onnx.ModelProto:
    text = f"""{HEAD} optional (optional(float[2,64]) x, float[2,64] z) => (float[2,32] y) {{
        h = OptionalHasElement (x)
        y = If (h) <
            then_branch = one () => (float[2,32] a) {{ e = OptionalGetElement (x)
                a = MatMul (e, w1) }},
            else_branch = other () => (float[2,32] b) {{ b = MatMul (z, w1) }}>
    }}"""
    return made(text, {"w1": (64, 32)})


def strings() -> onnx.ModelProto:
    text = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> text (string[N] words)
        => (float[N,32] y, string[N] w) {
        i = ai.onnx.ml.LabelEncoder <keys_strings = ["a", "b"], values_int64s = [1, 2], default_int64 = 0> (words)
        e = Gather (table, i)
        y = MatMul (e, w1)
        w = Identity (words)
    }"""
    return made(text, {"table": (3, 64), "w1": (64, 32)})


def empty_tensors() -> onnx.ModelProto:
    text = f"""{HEAD} empty (float[N,64] x) => (float[N,32] y, float[0,5] nothing) {{
        c = Concat <axis=1> (x, none)
        y = MatMul (c, w1)
        nothing = Identity (void)
    }}"""
    return made(text, {"none": np.zeros((1, 0), "f4"), "w1": (64, 32), "void": np.zeros((0, 5), "f4")})


def no_nodes() -> onnx.ModelProto:
    return made(f"{HEAD} bare (float[N,4] x) => (float[N,4] x) {{ }}")


def only_identity() -> onnx.ModelProto:
    return made(f"{HEAD} same (float[N,4] x) => (float[N,4] y) {{ y = Identity (x) }}")


def no_inputs() -> onnx.ModelProto:
    return made(f"{HEAD} constant () => (float[1,32] y) {{ y = MatMul (a, w) }}", {"a": (1, 64), "w": (64, 32)})


def one_name_for_all_nodes() -> onnx.ModelProto:
    model = plain_cnn()
    for node in model.graph.node:
        node.name = "node"
    return model


def strange_names() -> onnx.ModelProto:
    """Slashes, spaces, colons, other alphabets, and a name that ours would take."""
    model = plain_cnn()
    names = {"x": "serving_default/input 1:0", "a": "r_float", "r": "слой/выход", "y": "出力;1", "w1": "w1_quantized"}
    for node in model.graph.node:
        for names_of in (node.input, node.output):
            for index, name in enumerate(names_of):
                names_of[index] = names.get(name, name)
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = names.get(value.name, value.name)
    return model


def metadata() -> onnx.ModelProto:
    model = plain_cnn()
    helper.set_model_props(model, {"dictionary": "\n".join(map(chr, range(33, 5000))), "names": "{0: 'cat'}"})
    model.domain, model.model_version, model.doc_string = "org.example", 7, "A model with a history."
    model.producer_name = "example"
    return model


def functions() -> onnx.ModelProto:
    """Layers inside model-local functions that call each other."""
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]> calls (float[N,64] x) => (float[N,64] y) {
        a = local.Dense (x, w1)
        y = local.Twice (a, w1)
    }
    <opset_import: ["" : 17], domain: "local"> Dense (x, w) => (y) { m = MatMul (x, w)
        y = Relu (m) }
    <opset_import: ["" : 17, "local" : 1], domain: "local"> Twice (x, w) => (y) { m = local.Dense (x, w)
        y = local.Dense (m, w) }"""
    return made(text, {"w1": (64, 64)})


def infinite_mask() -> onnx.ModelProto:
    """Attention whose mask adds minus infinity."""
    text = f"""{HEAD} masked (float[N,8,64] x) => (float[N,8,64] y) {{
        q = MatMul (x, w1)
        t = Transpose <perm=[0,2,1]> (x)
        s = MatMul (q, t)
        m = Add (s, mask)
        p = Softmax (m)
        o = MatMul (p, x)
        y = MatMul (o, w2)
    }}"""
    mask = np.triu(np.full((8, 8), -np.inf, "f4"), 1)
    return made(text, {"w1": (64, 64), "w2": (64, 64), "mask": mask})


def not_a_number() -> onnx.ModelProto:
    """Half of the outputs are NaN, as the original has it."""
    text = f"""{HEAD} nan (float[N,64] x) => (float[N,32] y) {{
        s = Log (x)
        y = MatMul (s, w1)
    }}"""
    return made(text, {"w1": (64, 32)})


def hundreds_of_layers() -> onnx.ModelProto:
    nodes = [
        helper.make_node(*("MatMul", [f"h{i}", "w"], [f"h{i + 1}"]) if i % 2 else ("Relu", [f"h{i}"], [f"h{i + 1}"]))
        for i in range(600)
    ]
    values = [helper.make_tensor_value_info(name, T.FLOAT, ["N", 32]) for name in ("h0", "h600")]
    graph = helper.make_graph(nodes, "deep", values[:1], values[1:])
    graph.initializer.append(numpy_helper.from_array(np.eye(32, dtype="f4"), "w"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def bundle(path: Path) -> None:
    """A zip of the model and its weights in a file beside it."""
    model = plain_cnn()
    data = b""
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, "weights.bin", len(data), size)
        data += tensor.raw_data
        tensor.ClearField("raw_data")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model.onnx", model.SerializeToString())
        archive.writestr("weights.bin", data)
    path.write_bytes(content.getvalue())


def specimens() -> list[Specimen]:
    return [
        *written(
            {
                "convolutions inside of If": branches,
                "products inside of Loop": loop,
                "products inside of Scan": scan,
                "weights inside of Loop": everything_inside_a_loop,
                "scalar inputs and outputs": scalars,
                "outputs of several types": many_outputs,
                "wrong declared output shape": wrong_output_shape,
                "wrong shape written inside": wrong_value_info,
                "dimensions of -1": negative_dimensions,
                "every dimension varies": every_dimension_varies,
                "fixed batch of 3": odd_batch,
                "cache that grows": state,
                "sequence output": sequences,
                "optional input": optional_input,
                "strings in and out": strings,
                "tensors without elements": empty_tensors,
                "no nodes": no_nodes,
                "nothing but Identity": only_identity,
                "no inputs": no_inputs,
                "one name for all nodes": one_name_for_all_nodes,
                "strange names": strange_names,
                "metadata with a dictionary": metadata,
                "local functions": functions,
                "mask of minus infinity": infinite_mask,
                "NaN in the outputs": not_a_number,
                "six hundred nodes": hundreds_of_layers,
            },
            "hand",
        ),
        Specimen(
            "no shapes at all", "hand", lambda path: path.write_bytes(no_shapes().SerializeToString()), {"x": (1, 64)}
        ),
        Specimen("weights in a file beside it", "hand", bundle),
    ]
