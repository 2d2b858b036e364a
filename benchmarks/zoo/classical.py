"""Classical models as skl2onnx, onnxmltools (LightGBM, XGBoost) convert them: trees, kernels, pipelines with text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from sklearn import cluster, compose, ensemble, linear_model, naive_bayes, neighbors, neural_network, pipeline, svm
from sklearn import preprocessing as before
from sklearn.datasets import make_classification
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.zoo.specimen import Specimen

OPSETS = {"": 17, "ai.onnx.ml": 3}


def table() -> tuple[np.ndarray, np.ndarray]:
    rows, labels = make_classification(300, 20, n_informative=12, n_classes=3, random_state=0)
    return rows.astype(np.float32), labels


def converted(estimator: Any, opsets: dict[str, int]) -> onnx.ModelProto:
    """A fitted estimator of scikit-learn, probabilities as a tensor where it has some."""
    from skl2onnx import to_onnx

    rows, labels = table()
    options = {"zipmap": False} if hasattr(estimator, "predict_proba") else None
    return to_onnx(estimator.fit(rows, labels), rows[:1], target_opset=opsets, options=options)


def zipped() -> onnx.ModelProto:
    """Probabilities as a sequence of maps, which is the converter's default."""
    from skl2onnx import to_onnx

    rows, labels = table()
    return to_onnx(linear_model.LogisticRegression().fit(rows, labels), rows[:1], target_opset=OPSETS)


def text() -> onnx.ModelProto:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import StringTensorType

    words = np.array([["red dog"], ["blue cat"], ["green bird"], ["red cat"]])
    model = pipeline.make_pipeline(TfidfVectorizer(), linear_model.LogisticRegression()).fit(words[:, 0], [0, 1, 0, 1])
    return convert_sklearn(model, initial_types=[("text", StringTensorType([None]))], target_opset=OPSETS)


def mixed_columns() -> onnx.ModelProto:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    rows, labels = table()
    both = np.column_stack([rows[:, :3].astype(object), np.where(rows[:, 3] > 0, "a", "b")])
    columns = compose.ColumnTransformer(
        [("numbers", before.StandardScaler(), [0, 1, 2]), ("words", before.OneHotEncoder(), [3])]
    )
    model = pipeline.make_pipeline(columns, linear_model.LogisticRegression()).fit(both, labels)
    types = [("numbers", FloatTensorType([None, 3])), ("words", StringTensorType([None, 1]))]
    return convert_sklearn(model, initial_types=types, target_opset=OPSETS)


def lightgbm() -> onnx.ModelProto:
    from lightgbm import LGBMClassifier
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    model = LGBMClassifier(n_estimators=20, verbose=-1).fit(*table())
    return convert_lightgbm(model, initial_types=[("rows", FloatTensorType([None, 20]))], zipmap=False)


def xgboost() -> onnx.ModelProto:
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType
    from xgboost import XGBClassifier

    model = XGBClassifier(n_estimators=20).fit(*table())
    return convert_xgboost(model, initial_types=[("rows", FloatTensorType([None, 20]))])


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "random forest": lambda: ensemble.RandomForestClassifier(20, random_state=0),
    "gradient boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0),
    "support vectors": lambda: svm.SVC(probability=False),
    "nearest neighbours": neighbors.KNeighborsClassifier,
    "naive Bayes": naive_bayes.GaussianNB,
    "k-means": lambda: cluster.KMeans(4, n_init=1, random_state=0),
    "perceptron behind a scaler": lambda: pipeline.make_pipeline(
        before.StandardScaler(), neural_network.MLPClassifier((128, 64), max_iter=30, random_state=0)
    ),
    "polynomial regression": lambda: pipeline.make_pipeline(before.PolynomialFeatures(2), linear_model.Ridge()),
}
OTHERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "probabilities as maps": zipped,
    "text to TF-IDF to classes": text,
    "numbers and words": mixed_columns,
    "LightGBM": lightgbm,
    "XGBoost": xgboost,
}


def specimens() -> list[Specimen]:
    found = [
        Specimen(name, "skl2onnx", _writer(lambda build=build: converted(build(), OPSETS)))
        for name, build in ESTIMATORS.items()
    ]
    for opset, ml in ((9, 1), (12, 2), (21, 3)):
        build, opsets = ESTIMATORS["perceptron behind a scaler"], {"": opset, "ai.onnx.ml": ml}
        write = _writer(lambda build=build, opsets=opsets: converted(build(), opsets))
        found.append(Specimen(f"perceptron, opset {opset}", "skl2onnx", write))
    return found + [Specimen(name, "skl2onnx, onnxmltools", _writer(build)) for name, build in OTHERS.items()]


def _writer(build: Callable[[], onnx.ModelProto]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(build().SerializeToString())
