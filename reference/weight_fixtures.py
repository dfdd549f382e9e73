#!/usr/bin/env python3
"""Writes crates/nn/tests/fixtures/weights: tiny state dicts in every form that PyTorch writes, and what they hold.

    pip install torch==2.15.0 numpy==2.4.6
    python reference/weight_fixtures.py

Each file has an entry in expected.json: its tensors in order, each with shape, kind (f32 or i64) and all values, as
PyTorch itself loads them (16-bit and 64-bit floats converted to float32, integers and booleans to int64). Files that
PyTorch no longer writes are built here from their documented parts, opcode by opcode, and loaded by PyTorch as well.

The files of the old format name their storages by memory address, so their bytes change with every run; expected.json
does not.
"""

import collections
import io
import json
import pickle
import pickletools
import struct
import sys
import zipfile
from argparse import Namespace
from pathlib import Path

import torch
from torch import nn

OUTPUT = Path(__file__).parent.parent / "crates/nn/tests/fixtures/weights"
EXPECTED = {}
SAFETENSORS_NAMES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
}


def record(name, state):
    """Notes what `state`, an ordered mapping of tensors, should be read as."""
    entries = []
    for key, tensor in state.items():
        tensor = tensor.detach()
        real = tensor.is_floating_point()
        values = tensor.to(torch.float32 if real else torch.int64).contiguous().flatten().tolist()
        entries.append({"name": key, "shape": list(tensor.shape), "kind": "f32" if real else "i64", "values": values})
    EXPECTED[name] = entries


def save(name, state, content=None, old=False, **options):
    """Saves `content`, by default `state` itself, and notes that `state` is in it."""
    path = OUTPUT / name
    torch.save(state if content is None else content, path, _use_new_zipfile_serialization=not old, **options)
    record(name, state)


def network():
    """A small network with a parameter of every kind; its values are irregular, so that a misplaced one shows."""
    torch.manual_seed(20)
    model = nn.Sequential(
        collections.OrderedDict(
            conv1=nn.Conv2d(3, 4, 3, bias=False), bn1=nn.BatchNorm2d(4), fc=nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        )
    )
    model.bn1.running_mean.normal_()
    model.bn1.running_var.uniform_(0.5, 2.0)
    model.bn1.num_batches_tracked.fill_(12345678901)
    return model


def odd_layouts():
    """Tensors that are no plain block of their own storage."""
    base = torch.arange(60, dtype=torch.float32) * 0.37 - 5.0
    return collections.OrderedDict(
        transposed=base[:12].reshape(3, 4).t(),
        offset=base[7:19].reshape(2, 6),
        every_third=base[1:40:3],
        channels_last=base[:48].reshape(1, 2, 4, 6).to(memory_format=torch.channels_last),
        permuted=base[:24].reshape(2, 3, 4).permute(2, 0, 1),
        same_storage=base,
        overlapping=base.as_strided((4, 3), (2, 1), 5),
        scalar=torch.tensor(-0.125),
        element=base[33],
        empty=torch.empty(0, 5),
    )


def element_types():
    return collections.OrderedDict(
        half=torch.tensor([1.5, -0.333251953125, 65504.0, 6e-8], dtype=torch.float16),
        bfloat16=torch.tensor([3.140625, -1e30, 0.0078125], dtype=torch.bfloat16),
        double=torch.tensor([0.1, 1e-300, -123456789.123456789], dtype=torch.float64),
        uint8=torch.tensor([0, 200, 255], dtype=torch.uint8),
        int8=torch.tensor([-128, 127], dtype=torch.int8),
        int16=torch.tensor([-32768, 32767], dtype=torch.int16),
        int32=torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32),
        int64=torch.tensor([-(2**63), 2**63 - 1], dtype=torch.int64),
        boolean=torch.tensor([True, False, True]),
        half_transposed=torch.arange(6, dtype=torch.float16).reshape(2, 3).t(),
    )


class ForeignObject:
    """Pickles as a call of os.system."""

    def __reduce__(self):
        import os

        return os.system, ("touch should-not-exist",)


# -- Files of early versions, opcode by opcode -----------------------------------------------------------------------


def text(value):
    """SHORT_BINSTRING, the text of Python 2."""
    return b"U" + bytes([len(value)]) + value.encode()


def integers(values):
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def early_tensor(storage_class, key, elements, offset, shape, strides, view=None):
    """_rebuild_tensor(storage, offset, shape, strides), the form before PyTorch 0.4."""
    described = b"N"
    if view is not None:
        name, first, length = view
        described = b"(" + text(name) + b"J" + struct.pack("<i", first) + b"J" + struct.pack("<i", length) + b"t"
    storage = (
        b"(" + text("storage") + b"ctorch\n" + storage_class.encode() + b"\n" + text(key) + text("cpu")
        + b"J" + struct.pack("<i", elements) + described + b"tQ"
    )
    return (
        b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"J" + struct.pack("<i", offset)
        + integers(shape) + integers(strides) + b"tR"
    )


def python_2_file(path):
    """The form of torchvision's first files: Python 2, the old container, an OrderedDict made from a list of pairs, a
    parameter whose tensor is set after its creation, a view into a larger storage, storages in another order than used.
    """
    weight = [0.25 * i - 1.0 for i in range(12)]
    doubles = [0.1 * i for i in range(5)]
    parameter = b"ctorch.nn.parameter\nParameter\n)\x81("  # NEWOBJ without arguments, then BUILD with five.
    pairs = (
        b"](]" + b"(" + text("features.0.weight") + parameter
        + early_tensor("FloatStorage", "94001", 12, 0, [3, 4], [4, 1]) + b"N}\x88\x89tbe"
        + b"](" + text("features.0.bias")
        + early_tensor("FloatStorage", "94001", 12, 1, [2], [2], view=("94007", 4, 6)) + b"e"
        + b"](" + text("classifier.0.weight") + early_tensor("DoubleStorage", "17", 5, 1, [2, 2], [1, 2]) + b"ee"
    )
    dictionary = b"\x80\x02ccollections\nOrderedDict\n(" + pairs + b"tR."
    system = b"\x80\x02}(" + text("protocol_version") + b"M\xe9\x03" + text("little_endian") + b"\x88u."
    keys = b"\x80\x02](" + text("17") + text("94001") + b"e."
    content = (
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + system + dictionary + keys
        + struct.pack("<q5d", 5, *doubles) + struct.pack("<q12f", 12, *weight)
    )
    path.write_bytes(content)
    for part in (dictionary, system, keys):
        pickletools.dis(part, out=io.StringIO())  # Fails where the pickle is not well formed.
    state = {
        "features.0.weight": torch.tensor(weight).reshape(3, 4),
        "features.0.bias": torch.tensor([weight[5], weight[7]]),
        "classifier.0.weight": torch.tensor([[doubles[1], doubles[3]], [doubles[2], doubles[4]]], dtype=torch.float64),
    }
    record(path.name, state)


def with_byte_order_swapped(source, target):
    """Copies an archive that then says of itself that it was written on a big-endian machine."""
    with zipfile.ZipFile(OUTPUT / source) as old, zipfile.ZipFile(OUTPUT / target, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            content = b"big" if entry.filename.endswith("byteorder") else old.read(entry)
            # A date of its own would make the bytes new on every run.
            new.writestr(zipfile.ZipInfo(entry.filename), content)


def safetensors_file(path, state, metadata):
    """The format from its description, so that the reader is not tested against its own writer."""
    header, body = {"__metadata__": metadata}, b""
    for key, tensor in state.items():
        start = len(body)
        body += bytes(tensor.detach().reshape(-1).view(torch.uint8).tolist())
        header[key] = {
            "dtype": SAFETENSORS_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, len(body)],
        }
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + body)
    record(path.name, state)


def main():
    OUTPUT.mkdir(parents=True, exist_ok=True)
    model = network()
    state = model.state_dict()
    for old in (False, True):
        container = "old" if old else "zip"
        save(f"{container}_plain.pth", state, old=old)
        save(f"{container}_layouts.pth", odd_layouts(), old=old)
        save(f"{container}_element_types.pth", element_types(), old=old)
        save(f"{container}_parameters.pth", collections.OrderedDict(model.named_parameters()), old=old)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        checkpoint = {
            "epoch": 7,
            "best_loss": 0.25,
            "learning_rates": [0.1, 0.01],
            "arguments": Namespace(lr=0.1, name="run"),
            "device": torch.device("cpu"),
            "shape": torch.Size([2, 3]),
            "seen": {1, 2},
            "counts": collections.Counter(a=2),
            "history": collections.defaultdict(dict, first={}),
            "long": 2**70,
            "loose": torch.tensor([1.0]),
            "state_dict": {f"module.{key}": tensor for key, tensor in state.items()},
            "optimizer": optimizer.state_dict(),
        }
        save(f"{container}_checkpoint.pth", state, checkpoint, old=old)
        wrapped = {"model": {"model_state_dict": {f"_orig_mod.module.{key}": tensor for key, tensor in state.items()}}}
        save(f"{container}_wrapped.pth", state, wrapped, old=old)
    lightning = {"epoch": 1, "state_dict": {f"model.{key}": tensor for key, tensor in state.items()}, "hyper": None}
    save("zip_protocol_4.pth", state, lightning, pickle_protocol=4)
    unsigned = collections.OrderedDict(
        uint16=torch.tensor([0, 65535], dtype=torch.uint16), uint32=torch.tensor([1, 2**32 - 1], dtype=torch.uint32)
    )
    save("zip_unsigned.pth", unsigned)  # _rebuild_tensor_v3
    attributed = nn.Parameter(torch.tensor([0.5, -0.75]))
    attributed.note = "kept by PyTorch"
    save("zip_attribute.pth", {"weight": attributed})  # _rebuild_parameter_with_state
    python_2_file(OUTPUT / "old_python_2.pth")
    safetensors_file(OUTPUT / "plain.safetensors", state, {"format": "pt"})
    mixed = element_types()
    mixed["scalar"] = torch.tensor(-2.5)
    safetensors_file(OUTPUT / "element_types.safetensors", mixed, {"note": "every element type"})

    # What PyTorch itself makes of the file that it did not write.
    loaded = torch.load(OUTPUT / "old_python_2.pth", weights_only=False, encoding="utf-8")
    for (key, tensor), entry in zip(loaded.items(), EXPECTED["old_python_2.pth"], strict=True):
        got = tensor.detach().to(torch.float32).contiguous().flatten().tolist()
        assert key == entry["name"] and got == entry["values"], (key, got, entry)

    (OUTPUT / "expected.json").write_text(json.dumps(EXPECTED, separators=(",", ":")).replace('],"', '],\n"') + "\n")

    # Files that must be refused; the test says why.
    trap = {"weight": torch.ones(2), "trap": ForeignObject()}
    torch.save(trap, OUTPUT / "refused_os_system.pth")
    torch.save(trap, OUTPUT / "refused_os_system_old.pth", _use_new_zipfile_serialization=False)
    torch.save(nn.Linear(2, 1), OUTPUT / "refused_whole_model.pth")
    torch.save([torch.ones(2)], OUTPUT / "refused_list.pth")
    torch.save({"epoch": 3, "loss": 0.5}, OUTPUT / "refused_no_tensors.pth")
    torch.save({"weight": torch.ones(3).expand(1000, 3)}, OUTPUT / "refused_expanded.pth")
    torch.save({"weight": torch._neg_view(torch.ones(3))}, OUTPUT / "refused_pending_sign.pth")
    torch.save({"weight": torch.ones(2, dtype=torch.complex64)}, OUTPUT / "refused_complex.pth")
    with_byte_order_swapped("zip_plain.pth", "refused_big_endian.pth")
    size = sum(path.stat().st_size for path in OUTPUT.iterdir())
    print(f"PyTorch {torch.__version__}, Python {sys.version.split()[0]}: {size} bytes in {OUTPUT}")


if __name__ == "__main__":
    main()
