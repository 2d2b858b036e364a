"""Models of every kind, from many exporters and by hand, and what each step makes of them: `python -m benchmarks zoo`.

    written   in ONNX's text form, with weights drawn at random: layers, control flow, formats, oddities
    exported  by torch (both exporters, opset 9 to 23), scikit-learn, LightGBM, XGBoost
    shipped   by onnx, ONNX Runtime and other packages, where these are installed

A model whose package is missing is named and left out. The table is docs/zoo.md.
"""
