"""The steps that make files smaller: weights in few bits, and 16-bit floats."""

from pathlib import Path

import pytest

from engine.graph import load
from engine.recipe import ConvertFloat16, Half, QuantizeWeights, Step
from engine.signature import Signature
from tests.engine.steps.outcome import sqnr_db, variants

EXAMPLES = Path("examples/fashion")


@pytest.mark.parametrize("name", ["residual", "transformer", "recurrent"])
@pytest.mark.parametrize(
    ("step", "least_db", "most_share"),
    [
        (QuantizeWeights(bits=8), 35, 0.35),
        (QuantizeWeights(bits=4), 20, 0.35),
        (QuantizeWeights(bits=4, symmetric=False, block_size=64), 20, 0.35),
        (ConvertFloat16(), 50, 0.55),
        (ConvertFloat16(format=Half.BFLOAT16), 35, 0.55),
    ],
)
def test_files_get_smaller_and_outputs_stay_close(
    name: str, step: Step, least_db: float, most_share: float, tmp_path: Path
) -> None:
    path = EXAMPLES / f"{name}.onnx"
    proposed = variants(step, path, tmp_path / "out")
    for variant in proposed:
        assert sqnr_db(path, variant.path) > least_db
        assert variant.path.stat().st_size < path.stat().st_size * most_share
        assert Signature.of(load(variant.path)) == Signature.of(load(path))
