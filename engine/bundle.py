"""A model that came in pieces: a zip with one .onnx and the files that hold its weights, made one file.

Weights are read from the extracted members only, so no path that a user chose is ever opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx

from engine.admission.tensors import all_tensors, declared_bytes, external_range, is_external
from engine.errors import ModelRejected, shown
from engine.graph import save
from engine.zips import Member, open_archive

REMEDY = "Put exactly one .onnx file and its data files into the zip."


@dataclass(frozen=True)
class Bundle:
    """The extracted files."""

    model: Path
    companions: Mapping[str, Path]  #: data files by their location, as the model names them


def open_bundle(path: Path, folder: Path) -> Bundle:
    """Extract a bundle into `folder`, under names of our own. Raises ModelRejected."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_archive(path, ModelRejected) as archive:
        files = [member for member in archive.members if not member.info.is_dir()]
        main = _main(files)
        home = PurePosixPath(main.name).parent
        model = archive.extract(main, folder / "bundle.onnx")
        companions = {
            str(PurePosixPath(member.name).relative_to(home)): archive.extract(member, folder / f"bundle-{index}.bin")
            for index, member in enumerate(files)
            if member is not main and PurePosixPath(member.name).is_relative_to(home)
        }
    return Bundle(model, companions)


def _main(files: list[Member]) -> Member:
    models = [member for member in files if member.name.lower().endswith(".onnx")]
    if len(models) != 1:
        names = ", ".join(shown(member.name) for member in models[:4]) or "none"
        raise ModelRejected("bundle_members", f"The zip holds {len(models)} .onnx files: {names}.", REMEDY)
    return models[0]


def join(model: onnx.ModelProto, companions: Mapping[str, Path], target: Path) -> Path:
    """Write the model as one file. Its tensors were admitted, so every range lies inside its companion."""
    for tensor in all_tensors(model):
        if is_external(tensor):
            _take_in(tensor, companions)
    return save(model, target)


def _take_in(tensor: onnx.TensorProto, companions: Mapping[str, Path]) -> None:
    location = next(entry.value for entry in tensor.external_data if entry.key == "location")
    offset, _ = external_range(tensor)
    with companions[location].open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(declared_bytes(tensor))
    del tensor.external_data[:]
    tensor.ClearField("data_location")
