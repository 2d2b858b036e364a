"""A model that came in pieces: a zip with one .onnx and the files that hold its weights, made one file where it fits.

Weights are read from the extracted members only, so no path that a user chose is ever opened.
"""

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx

from engine import beside
from engine.admission import admit
from engine.admission.sniff import is_bundle
from engine.admission.tensors import all_tensors, declared_bytes, external_range, is_external
from engine.errors import ModelRejected
from engine.graph import save, write_structure
from engine.words import shown
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


def canonical(path: Path, folder: Path) -> Path:
    """The model as all steps read it: one file, or two as `engine.beside` has them where one cannot hold it."""
    if not is_bundle(path):
        return path
    bundle = open_bundle(path, folder)
    joined = join(admit(bundle.model, bundle.companions), bundle.companions, folder / "canonical.onnx")
    for extracted in (bundle.model, *bundle.companions.values()):
        extracted.unlink()
    return joined


def join(model: onnx.ModelProto, companions: Mapping[str, Path], target: Path) -> Path:
    """Write the model in our own form. Its tensors were admitted, so every range lies inside its companion."""
    outside = [tensor for tensor in all_tensors(model) if is_external(tensor)]
    if sum(map(declared_bytes, outside)) + beside.weights_bytes(model) > beside.LARGEST_BYTES:
        _keep_apart(model, companions, target)
        return write_structure(model, target)
    for tensor in outside:
        _take_in(tensor, companions)
    return save(model, target)


def _keep_apart(model: onnx.ModelProto, companions: Mapping[str, Path], target: Path) -> None:
    """Large weights go from file to file without ever being in memory as a whole."""
    with beside.writing(target) as data:
        kept = [_kept_apart(tensor, companions, data) for tensor in model.graph.initializer]
    del model.graph.initializer[:]
    for tensor in all_tensors(model):
        if is_external(tensor):
            _take_in(tensor, companions)
    model.graph.initializer.extend(kept)


def _kept_apart(tensor: onnx.TensorProto, companions: Mapping[str, Path], data: beside.Data) -> onnx.TensorProto:
    if is_external(tensor) and declared_bytes(tensor) >= beside.SMALLEST_BYTES:
        with _content(tensor, companions) as content:
            return data.add(tensor, content)
    if is_external(tensor):
        _take_in(tensor, companions)
    return tensor


def _take_in(tensor: onnx.TensorProto, companions: Mapping[str, Path]) -> None:
    with _content(tensor, companions) as content:
        tensor.raw_data = bytes(content)
    del tensor.external_data[:]
    tensor.ClearField("data_location")


@contextmanager
def _content(tensor: onnx.TensorProto, companions: Mapping[str, Path]) -> Iterator[memoryview]:
    """The bytes of a tensor in its companion, as far as they are asked for."""
    location = next(entry.value for entry in tensor.external_data if entry.key == "location")
    offset, _ = external_range(tensor)
    size = declared_bytes(tensor)
    if not size:
        yield memoryview(b"")
        return
    with (
        companions[location].open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as whole,
        whole[offset : offset + size] as content,
    ):
        yield content
