"""Writes the DICOM files that crates/data/tests/dicom_*.rs read, and what pydicom makes of them.

Run from the root of the repository, with the versions below and DCMTK (`dcmcjpeg`, `dcmconv`) installed:

    python reference/dicom_fixtures.py

What is written, under crates/data/tests/fixtures/dicom:

    combinations.bin   small images of every combination of stored bits, sign, modality transformation and values of
                       interest, in turn MONOCHROME1 and MONOCHROME2: for each its name, its file without the first 132
                       bytes, and what it shows; before each of the three its length, uint32
    syntaxes/          one file for each transfer syntax and kind of samples, NAME.raw beside it: what it shows
    frames/            files of three frames; NAME.raw holds all of them
    bad/               files that must give an error

What a file shows is pydicom's apply_voi_lut(apply_modality_lut(pixel_array)), as a share of its output range, inverted
for MONOCHROME1, times 65535: uint16, little-endian, [rows, columns]. Files without window or table are shown over the
range of their bits where those are 8 at most, else from their smallest to their largest value.
"""

import io
import itertools
import struct
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000, JPEG2000Lossless, RLELossless

PINNED = {"pydicom": "3.0.2"}
OUT = Path("crates/data/tests/fixtures/dicom")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
warnings.filterwarnings("ignore", message="Applying a VOI LUT on a float input array")


def stored_values(rows, columns, bits, signed, seed):
    """Waves with noise that reach both ends of what `bits` can hold, [rows, columns]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns]
    values = np.sin(x / 3 + y / 5) + np.cos(x / 4 - y / 2) + rng.normal(0, 0.2, (rows, columns))
    values = (values - values.min()) / (values.max() - values.min())
    low = -(1 << bits - 1) if signed else 0
    return np.rint(values * ((1 << bits) - 1)).astype(np.int64) + low


def dataset(values, allocated, stored, signed, high=None, syntax=ExplicitVRLittleEndian, photometric="MONOCHROME2"):
    """A file of the given stored values, [rows, columns] or [frames, rows, columns]."""
    high = stored - 1 if high is None else high
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    ds.PatientID = "P1"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = photometric
    if values.ndim == 3:
        ds.NumberOfFrames = len(values)
    ds.Rows, ds.Columns = values.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, stored, high
    ds.PixelRepresentation = int(signed)
    words = (values & ((1 << stored) - 1)) << (high + 1 - stored)
    data = words.astype("<u2" if allocated == 16 else "u1").tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW"
    return ds


def table(first, entries, bits, signed):
    item = Dataset()
    item.add_new((0x0028, 0x3002), "SS" if signed else "US", [len(entries) % 65536, first, bits])
    item.add_new((0x0028, 0x3006), "US", [int(entry) for entry in entries])
    return Sequence([item])


def shown(ds, values):
    """What a viewer shows of the stored values of a file, 0 to 65535."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modality = apply_modality_lut(values, ds)
        output = apply_voi_lut(modality, ds).astype(np.float64)
    stored = 1 << ds.BitsStored
    ends = np.array([-stored // 2, stored // 2 - 1] if ds.PixelRepresentation else [0, stored - 1])
    if "VOILUTSequence" in ds:
        low, high = 0, (1 << ds.VOILUTSequence[0].LUTDescriptor[2]) - 1
    elif "ModalityLUTSequence" in ds and "WindowCenter" in ds:
        low, high = 0, (1 << ds.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    elif "WindowCenter" in ds:
        low, high = apply_modality_lut(ends, ds)
    elif ds.BitsStored <= 8 and "ModalityLUTSequence" not in ds:
        low, high = sorted(apply_modality_lut(ends, ds))
    else:
        low, high = output.min(), output.max()
    share = np.clip((output - low) / (high - low), 0, 1)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        share = 1 - share
    return np.rint(share * 65535).astype("<u2")


def written(ds):
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


# --- combinations ------------------------------------------------------------------------------------------------

SAMPLES = {  # allocated, stored, signed, high bit
    "8": (8, 8, False, None),
    "8s": (8, 8, True, None),
    "10": (16, 10, False, None),
    "12": (16, 12, False, None),
    "12s": (16, 12, True, None),
    "12-left": (16, 12, False, 15),
    "12s-left": (16, 12, True, 15),
    "16": (16, 16, False, None),
    "16s": (16, 16, True, None),
}
MODALITIES = ["none", "rescale", "negative", "table"]
VOIS = ["none", "linear", "exact", "sigmoid", "narrow", "two", "table", "both"]


def combination(samples, modality, voi, photometric, seed):
    allocated, stored, signed, high = SAMPLES[samples]
    values = stored_values(5, 6, stored, signed, seed)
    ds = dataset(values, allocated, stored, signed, high, photometric=photometric)
    if modality == "table":
        # Fewer entries than values: what lies outside takes the first or the last.
        count = min(1 << stored, 64)
        middle = 0 if signed else 1 << stored - 1
        entries = np.rint((np.arange(count) / (count - 1)) ** 0.7 * 1000)
        ds.ModalityLUTSequence = table(middle - count // 2, entries, 16, signed)
        ds.ModalityLUTSequence[0].ModalityLUTType = "US"
        low, high_value = 0, 1000
    else:
        slope, intercept = {"none": (1, 0), "rescale": (0.37, -1024.5), "negative": (-1, 300)}[modality]
        if modality != "none":
            ds.RescaleSlope, ds.RescaleIntercept = str(slope), str(intercept)
        low, high_value = sorted((values.min() * slope + intercept, values.max() * slope + intercept))
    center, width = round(low * 0.45 + high_value * 0.55, 2), round((high_value - low) * 0.6, 2)
    if voi in ("linear", "exact", "sigmoid", "both"):
        ds.WindowCenter, ds.WindowWidth = str(center), str(width)
    if voi in ("exact", "sigmoid"):
        ds.VOILUTFunction = {"exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}[voi]
    if voi == "narrow":
        ds.WindowCenter, ds.WindowWidth = str(center), "1"
    if voi == "two":
        ds.WindowCenter, ds.WindowWidth = [str(center), "1"], [str(width), "2"]
    if voi in ("table", "both"):
        count = 48
        first = int((low + high_value) / 2) - count // 2
        # The first value has a sign where pydicom would write one; without one it cannot be negative.
        is_signed = first < 0
        entries = np.rint((np.arange(count) / (count - 1)) ** 1.6 * 4095)
        ds.VOILUTSequence = table(first, entries, 12, is_signed)
    return ds, values


def combinations():
    parts = []
    count = 0
    for number, (samples, modality, voi) in enumerate(itertools.product(SAMPLES, MODALITIES, VOIS)):
        if voi in ("narrow", "two") and modality != "none":
            continue
        photometric = "MONOCHROME1" if (number + number // len(VOIS)) % 2 else "MONOCHROME2"
        ds, values = combination(samples, modality, voi, photometric, number)
        file = io.BytesIO()
        # Smaller than `written`: only what is needed.
        del ds.SOPClassUID, ds.SOPInstanceUID
        del ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID
        ds.save_as(file, enforce_file_format=False)
        again = pydicom.dcmread(io.BytesIO(b"\0" * 128 + b"DICM" + file.getvalue()))
        if "left" not in samples:
            assert np.array_equal(again.pixel_array, values), (samples, modality, voi)
        name = f"{samples} {modality} {voi} {photometric}"
        for part in (name.encode(), file.getvalue(), shown(again, values).tobytes()):
            parts.append(struct.pack("<I", len(part)) + part)
        count += 1
    (OUT / "combinations.bin").write_bytes(b"".join(parts))
    print(f"{count} combinations")


# --- transfer syntaxes -------------------------------------------------------------------------------------------


def run(*command):
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def dcmtk(ds, *command):
    """The file that a program of DCMTK makes of this one."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.dcm", Path(folder) / "out.dcm"
        source.write_bytes(written(ds))
        run(command[0], *command[1:], source, target)
        return target.read_bytes()


def keep(folder, name, file, exact=None):
    """Writes a file and what it shows; `exact`: the stored values that it must hold."""
    ds = pydicom.dcmread(io.BytesIO(file))
    values = ds.pixel_array.astype(np.int64)
    if exact is not None:
        assert np.array_equal(values, exact), name
    (OUT / folder / f"{name}.dcm").write_bytes(file)
    frames = values if values.ndim == 3 else values[None]
    (OUT / folder / f"{name}.raw").write_bytes(b"".join(shown(ds, frame).tobytes() for frame in frames))
    print(f"{folder}/{name}: {len(file)} bytes, {ds.file_meta.TransferSyntaxUID}")


def implicit_table():
    """A table in DICOM's default encoding, where no type says whether its first value has a sign, in open sequences."""
    values = stored_values(10, 12, 12, True, 5)
    ds = dataset(values, 16, 12, True, syntax=ImplicitVRLittleEndian)
    ds.VOILUTSequence = table(-500, np.rint(np.linspace(0, 1, 700) ** 2 * 4095), 12, True)
    ds["VOILUTSequence"].is_undefined_length = True
    ds.VOILUTSequence[0].is_undefined_length_sequence_item = True
    return ds, values


def icon_and_private(values):
    """An icon with pixels of its own, and a private sequence of unknown type that holds elements in the default encoding."""
    ds = dataset(values, 16, 12, False)
    icon = dataset(stored_values(4, 4, 8, False, 9), 8, 8, False)
    del icon.file_meta
    ds.IconImageSequence = Sequence([icon])
    ds["IconImageSequence"].is_undefined_length = True
    inner = struct.pack("<HHI4s", 0x0009, 0x1001, 4, b"abcd")
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    unknown = struct.pack("<HH2sHI", 0x0009, 0x1010, b"UN", 0, 0xFFFFFFFF) + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    file = written(ds)
    # Ahead of the patient, (0010,0020).
    place = file.index(struct.pack("<HH2s", 0x0010, 0x0020, b"LO"))
    return file[:place] + unknown + file[place:]


def overlay(values):
    """Bit 15 holds an overlay, as it was done until 2004."""
    ds = dataset(values, 16, 12, False)
    words = values | (np.indices(values.shape).sum(0) % 3 == 0) << 15
    ds.PixelData = words.astype("<u2").tobytes()
    ds.add_new((0x6000, 0x0100), "US", 16)
    ds.add_new((0x6000, 0x0102), "US", 15)
    return ds


def padding():
    """Values that stand for no image, far below the others, which a range from smallest to largest leaves out."""
    values = stored_values(10, 12, 11, False, 11) + 1000
    image = values.copy()
    values[:3] = 0
    ds = dataset(values, 16, 16, False)
    ds.PixelPaddingValue = 0
    expected = np.rint(np.clip((values - image[3:].min()) / (image[3:].max() - image[3:].min()), 0, 1) * 65535)
    return written(ds), expected.astype("<u2")


def syntaxes():
    rows, columns = 10, 12
    eight = stored_values(rows, columns, 8, False, 1)
    twelve = stored_values(rows, columns, 12, False, 2)
    sixteen = stored_values(rows, columns, 16, False, 3)
    negative = stored_values(rows, columns, 12, True, 4)
    deep_negative = stored_values(rows, columns, 16, True, 6)
    kinds = {
        "8": (eight, 8, 8, False),
        "12": (twelve, 16, 12, False),
        "16": (sixteen, 16, 16, False),
        "12s": (negative, 16, 12, True),
        "16s": (deep_negative, 16, 16, True),
    }
    for kind, (values, allocated, stored, signed) in kinds.items():
        plain = dataset(values, allocated, stored, signed)
        implicit = dataset(values, allocated, stored, signed, syntax=ImplicitVRLittleEndian)
        keep("syntaxes", f"explicit-{kind}", written(plain), values)
        keep("syntaxes", f"implicit-{kind}", written(implicit), values)
        keep("syntaxes", f"big-endian-{kind}", dcmtk(plain, "dcmconv", "+tb"), values)
        rle = dataset(values, allocated, stored, signed)
        rle.compress(RLELossless)
        keep("syntaxes", f"rle-{kind}", written(rle), values)
        keep("syntaxes", f"jpeg-lossless-70-{kind}", dcmtk(plain, "dcmcjpeg", "+e1"), values)
        # The encoder wants at least 32 pixels a side.
        wide = stored_values(33, 38, stored, signed, 8)
        j2k = dataset(wide, allocated, stored, signed)
        j2k.compress(JPEG2000Lossless)
        keep("syntaxes", f"jpeg2000-{kind}", written(j2k), wide)
    for selection in range(1, 8):
        file = dcmtk(dataset(twelve, 16, 12, False), "dcmcjpeg", "+el", "+sv", selection)
        keep("syntaxes", f"jpeg-lossless-57-{selection}", file, twelve)
    odd = stored_values(7, 9, 8, False, 7)
    keep("syntaxes", "odd-8", written(dataset(odd, 8, 8, False)), odd)
    bytes_of_8 = dataset(odd, 8, 8, False)
    bytes_of_8["PixelData"].VR = "OB"
    keep("syntaxes", "big-endian-odd-8", dcmtk(bytes_of_8, "dcmconv", "+tb"), odd)

    jpeg = io.BytesIO()
    Image.fromarray(eight.astype(np.uint8)).save(jpeg, "JPEG", quality=90)
    ds = dataset(eight, 8, 8, False, syntax="1.2.840.10008.1.2.4.50", photometric="MONOCHROME1")
    ds.PixelData = encapsulate([jpeg.getvalue()])
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    keep("syntaxes", "jpeg-50", written(ds))
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.51"
    ds.PixelData = encapsulate([jpeg.getvalue()], fragments_per_frame=3)
    ds["PixelData"].VR = "OB"
    keep("syntaxes", "jpeg-51-fragments", written(ds))
    lossy = dataset(wide >> 4 & 0xFFF, 16, 12, False)
    lossy.compress(JPEG2000, j2k_cr=[4])
    keep("syntaxes", "jpeg2000-91", written(lossy))

    ds, values = implicit_table()
    keep("syntaxes", "implicit-table", written(ds), values)
    keep("syntaxes", "icon-and-private", icon_and_private(twelve), twelve)
    keep("syntaxes", "overlay", written(overlay(twelve)), twelve)
    file, expected = padding()
    (OUT / "syntaxes" / "padding.dcm").write_bytes(file)
    (OUT / "syntaxes" / "padding.raw").write_bytes(expected.tobytes())


def frames():
    values = np.stack([stored_values(9, 11, 12, False, seed) for seed in (20, 21, 22)])
    keep("frames", "native", written(dataset(values, 16, 12, False)), values)
    eight = np.stack([stored_values(9, 11, 8, False, seed) for seed in (23, 24, 25)])
    # Frames of 99 bytes: the second begins at an odd one.
    keep("frames", "native-odd", written(dataset(eight, 8, 8, False)), eight)
    keep("frames", "big-endian-odd", dcmtk(dataset(eight, 8, 8, False), "dcmconv", "+tb"), eight)
    table_of_offsets = dataset(values, 16, 12, False)
    table_of_offsets.compress(RLELossless)
    keep("frames", "rle-offsets", written(table_of_offsets), values)
    encoded = list(pydicom.encaps.generate_frames(table_of_offsets.PixelData, number_of_frames=3))
    for name, has_bot, fragments in (("rle-fragments", False, 1), ("rle-offsets-fragments", True, 2)):
        table_of_offsets.PixelData = encapsulate(encoded, fragments_per_frame=fragments, has_bot=has_bot)
        table_of_offsets["PixelData"].VR = "OB"
        keep("frames", name, written(table_of_offsets), values)


# --- bad files ---------------------------------------------------------------------------------------------------
def flat_j2k(width, height, components=1, tile=None, present=None, precincts=b""):
    """A JPEG 2000 codestream of 8 bits without wavelets, each packet of which is one zero byte: nothing coded.

    `tile` is the size of the tiles, `present` how many of them are there, `precincts` the exponents of their sizes.
    """
    across, down = tile or (width, height)
    tiles = -(-width // across) * -(-height // down)
    size = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, across, down, 0, 0, components)
    style = bytes([bool(precincts), 0, 0, 1, 0, 0, 4, 4, 0, 1]) + precincts
    header = b""
    for marker, body in ((b"\x51", size + bytes([7, 1, 1]) * components), (b"\x52", style), (b"\x5c", b"\x40\x40")):
        header += b"\xff" + marker + struct.pack(">H", len(body) + 2) + body
    packets = bytes(components)
    parts = [
        b"\xff\x90" + struct.pack(">HHIBB", 10, number, 14 + len(packets), 0, 1) + b"\xff\x93" + packets
        for number in range(tiles if present is None else present)
    ]
    return b"\xff\x4f" + header + b"".join(parts) + b"\xff\xd9"


# Streams that announce more than they hold: width, height, and the rest of `flat_j2k`.
J2K_BOMBS = {
    "jpeg2000-components": (1000, 1000, {"components": 255}),
    "jpeg2000-pixels": (10000, 10000, {}),
    "jpeg2000-tiles": (260, 260, {"tile": (1, 1), "present": 1}),
    "jpeg2000-tiles-missing": (64, 64, {"tile": (16, 16), "present": 3}),
    "jpeg2000-packets": (260, 260, {"precincts": b"\x11"}),
}


def bad():
    values = stored_values(6, 8, 12, False, 30)
    good = written(dataset(values, 16, 12, False))

    def changed(**attributes):
        ds = dataset(values, 16, 12, False)
        for name, value in attributes.items():
            setattr(ds, name, value)
        return written(ds)

    def replaced(old, new):
        assert good.count(old) == 1
        return good.replace(old, new)

    def element(group, number, vr, value):
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    def syntax(uid, file=good):
        old = b"1.2.840.10008.1.2.1\0"
        uid = uid.encode() + b"\0" * (len(uid) % 2)
        head = struct.pack("<HH2sH", 2, 0x10, b"UI", len(old)) + old
        assert file.count(head) == 1
        return file.replace(head, element(2, 0x10, b"UI", uid))

    short = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, values.size * 2)
    files = {
        "magic-only": good[:132],
        "no-transfer-syntax": good[:132] + good[good.index(struct.pack("<HH2s", 8, 0x16, b"UI")) :],
        "no-pixel-data": good[: good.index(short)],
        "truncated-header": good[: good.index(short) - 3],
        "truncated-pixels": good[:-20],
        "too-few-pixels": good[:-20].replace(short, struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, values.size * 2 - 20)),
        "lying-length": good.replace(short, struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 0xFFFFFFF0)),
        "no-type": good.replace(struct.pack("<HH2s", 0x28, 0x10, b"US"), struct.pack("<HH2s", 0x28, 0x10, b"\1\2")),
        "huge": changed(Rows=65535, Columns=65535),
        "elongated": changed(Rows=1, Columns=48 * 2),
        "no-rows": replaced(element(0x28, 0x10, b"US", b"\6\0"), b""),
        "zero-columns": changed(Columns=0),
        "colour": changed(PhotometricInterpretation="RGB"),
        "three-samples": changed(SamplesPerPixel=3),
        "palette": changed(PhotometricInterpretation="PALETTE COLOR"),
        "bits-32": changed(BitsAllocated=32),
        "bits-stored-beyond-allocated": changed(BitsStored=20),
        "bits-stored-too-few": changed(BitsStored=9, HighBit=8),
        "high-bit": changed(HighBit=3),
        "window-of-no-width": changed(WindowCenter="5", WindowWidth="0"),
        "window-function": changed(WindowCenter="5", WindowWidth="9", VOILUTFunction="CUBIC"),
        "slope-zero": changed(BitsAllocated=8, BitsStored=8, HighBit=7, RescaleSlope="0", RescaleIntercept="0"),
        "several-frames": changed(NumberOfFrames="3", Rows=2),
        "table-too-short": changed(VOILUTSequence=table(0, [1, 2, 3], 12, False)),
        "jpeg-ls": syntax("1.2.840.10008.1.2.4.80"),
        "jpeg-extended-12": None,
        "deflated": syntax("1.2.840.10008.1.2.1.99"),
        "video": syntax("1.2.840.10008.1.2.4.102"),
        "unknown-syntax": syntax("1.2.3.4.5"),
        "native-as-rle": syntax("1.2.840.10008.1.2.5"),
    }
    head = element(0x28, 0x1053, b"DS", b"one.")
    files["rescale-no-number"] = good.replace(short, head + short)
    descriptor = struct.pack("<HHH", 3, 0, 12)
    assert files["table-too-short"].count(descriptor) == 1
    files["table-too-short"] = files["table-too-short"].replace(descriptor, struct.pack("<HHH", 4, 0, 12))

    nested = b""
    for _ in range(200):
        nested = (
            struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
            + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
            + nested
            + struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        )
    files["nested"] = good[: good.index(short)] + nested + good[good.index(short) :]

    def encapsulated(uid, frame, ds=None):
        ds = dataset(values, 16, 12, False) if ds is None else ds
        ds.file_meta.TransferSyntaxUID = uid
        ds.PixelData = encapsulate([frame], has_bot=False)
        ds["PixelData"].VR = "OB"
        return written(ds)

    rle = dataset(values, 16, 12, False)
    rle.compress(RLELossless)
    frame = next(pydicom.encaps.generate_frames(rle.PixelData, number_of_frames=1))
    files["rle-planes"] = encapsulated(RLELossless, struct.pack("<I", 3) + frame[4:])
    files["rle-offset"] = encapsulated(RLELossless, frame[:4] + struct.pack("<I", 1 << 30) + frame[8:])
    files["rle-short"] = encapsulated(RLELossless, frame[: 64 + 8])
    bomb = dataset(values, 16, 12, False)
    bomb.Rows = bomb.Columns = 9000
    files["rle-bomb"] = encapsulated(RLELossless, frame, bomb)

    lossless = pydicom.dcmread(io.BytesIO(dcmtk(dataset(values, 16, 12, False), "dcmcjpeg", "+e1")))
    frame = next(pydicom.encaps.generate_frames(lossless.PixelData, number_of_frames=1))
    uid = "1.2.840.10008.1.2.4.70"
    files["jpeg-short"] = encapsulated(uid, frame[: len(frame) * 2 // 3])
    wider = dataset(values, 16, 12, False)
    wider.Columns = 9
    files["jpeg-size"] = encapsulated(uid, frame, wider)
    scan = frame.index(b"\xff\xda")
    files["jpeg-restarts"] = encapsulated(uid, frame[:scan] + b"\xff\xdd\0\4\0\10" + frame[scan:])
    colour = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 90)).save(colour, "JPEG")
    files["jpeg-colour"] = encapsulated(
        "1.2.840.10008.1.2.4.50", colour.getvalue(), dataset(values & 255, 8, 8, False)
    )
    j2k = dataset(stored_values(33, 38, 12, False, 31), 16, 12, False)
    j2k.compress(JPEG2000Lossless)
    frame = next(pydicom.encaps.generate_frames(j2k.PixelData, number_of_frames=1))
    files["jpeg2000-short"] = encapsulated(JPEG2000Lossless, frame[: len(frame) // 2], j2k)
    for name, (width, height, rest) in J2K_BOMBS.items():
        header = dataset(values & 255, 8, 8, False)
        header.Columns, header.Rows = width, height
        files[name] = encapsulated(JPEG2000Lossless, flat_j2k(width, height, **rest), header)
    empty = dataset(values, 16, 12, False, syntax=JPEG2000Lossless)
    # An empty table of offsets, and nothing behind it.
    empty.PixelData = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    empty["PixelData"].VR = "OB"
    empty["PixelData"].is_undefined_length = True
    files["no-fragments"] = written(empty)
    files["jpeg-extended-12"] = dcmtk(dataset(values, 16, 12, False), "dcmcjpeg", "+ee")
    for name, file in files.items():
        (OUT / "bad" / f"{name}.dcm").write_bytes(file)
    print(f"{len(files)} bad files")


def main():
    assert pydicom.__version__ == PINNED["pydicom"], pydicom.__version__
    for folder in ("syntaxes", "frames", "bad"):
        (OUT / folder).mkdir(parents=True, exist_ok=True)
        for old in (OUT / folder).iterdir():
            old.unlink()
    combinations()
    syntaxes()
    frames()
    bad()


if __name__ == "__main__":
    main()
