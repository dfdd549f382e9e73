"""Writes the fixtures that crates/data/tests compare preprocessing with.

Run from the root of the repository, with the versions below installed:

    python reference/preprocess_fixtures.py [DATA]

DATA is a folder with `originals/` and `cxr/{train,validation,test}/CLASS/` (default ../shared/data). Without it
only the synthetic fixtures are written. What is written, under crates/data/tests/fixtures:

    images/     small synthetic images of every kind that is read
    decoded/    NAME.rgb: Pillow's convert("RGB"), [height, width, 3] uint8
    expected/   NAME.S.raw: torchvision's Resize(round(S * 256 / 224)), CenterCrop(S), [3, S, S] uint8
                NAME.S.f32: the same of 16-bit grey divided by 257, [S, S] float32, little-endian
    seed/       CASE.raw: resize, rotate, resized_crop, hflip with given parameters, [3, S, S] uint8
    bad/        files that must give an error
    cases.json  versions, the list of images and of seed cases
    real.json   sampled pixels and sums of real radiographs after the fixed transform
"""

import io
import json
import shutil
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL
import torchvision
from PIL import Image, features
from torchvision.transforms import functional as F

PINNED = {"pillow": "13.0.0", "torchvision": "0.29.2", "numpy": "2.4.6", "libjpeg-turbo": "3.2.0"}
OUT = Path("crates/data/tests/fixtures")
SIZES = (32, 56)
SEED_SIZE = 48
REAL_SIZES = (224, 64)
SAMPLES = 64
# Every n-th of the small radiographs; all of the originals.
REAL_STEP = 40


def found_versions():
    return {
        "pillow": PIL.__version__,
        "torchvision": torchvision.__version__.split("+")[0],
        "numpy": np.__version__,
        "libjpeg-turbo": features.version("libjpeg_turbo"),
    }


# --- synthetic images -------------------------------------------------------------------------------------------


def pattern(width, height, channels, rng):
    """Waves of several lengths with noise, [height, width, channels], 0 to 1."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 5 + y / 9), np.cos(x / 7 - y / 4), np.sin(x * y / 300), np.cos((x - y) / 6)]
    values = np.stack(waves[:channels], -1) * 0.4 + 0.5 + rng.normal(0, 0.02, (height, width, channels))
    return values.clip(0, 1)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bit_depth, color_type, rows, extra=b""):
    """A PNG file from packed rows, for the kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def packed(indices, bits):
    """Rows of small integers, packed with the leftmost in the highest bits."""
    rows = []
    for row in indices:
        text = "".join(format(int(value), f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return rows


def interlaced(gray):
    """An 8-bit grey PNG in Adam7 order, which Pillow reads but does not write."""
    height, width = gray.shape
    data = b""
    for top, left, down, right in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
                                   (1, 0, 2, 1)):
        data += b"".join(b"\0" + row.tobytes() for row in gray[top::down, left::right] if row.size)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def synthetic():
    """name -> bytes of the file."""
    rng = np.random.default_rng(20)
    files = {}

    def save(name, image, **options):
        buffer = io.BytesIO()
        image.save(buffer, "PNG" if name.endswith("png") else "JPEG", **options)
        files[name] = buffer.getvalue()

    def levels(width, height, channels, largest=255, dtype=np.uint8):
        return (pattern(width, height, channels, rng) * largest).round().astype(dtype)

    def deep(width, height, channels):
        return levels(width, height, channels, 65535, ">u2")

    # PNG, every colour type and depth.
    save("grey8.png", Image.fromarray(levels(61, 47, 1)[..., 0]))
    save("rgb8.png", Image.fromarray(levels(47, 61, 3)))
    save("rgba8.png", Image.fromarray(levels(64, 48, 4), "RGBA"))
    save("grey8-alpha.png", Image.fromarray(levels(50, 41, 2), "LA"))
    save("palette8.png", Image.fromarray(levels(64, 45, 3)).quantize(200))
    save("palette4.png", Image.fromarray(levels(53, 45, 3)).quantize(13), bits=4)
    save("palette-transparent.png", Image.fromarray(levels(53, 45, 3)).quantize(30), transparency=bytes(range(0, 240, 8)))
    save("bit1.png", Image.fromarray(levels(59, 43, 1)[..., 0] > 127))
    files["grey2.png"] = png(57, 44, 2, 0, packed(levels(57, 44, 1, 3)[..., 0], 2))
    files["grey4.png"] = png(57, 44, 4, 0, packed(levels(57, 44, 1, 15)[..., 0], 4))
    files["palette2.png"] = png(57, 44, 2, 3, packed(levels(57, 44, 1, 3)[..., 0], 2),
                                chunk(b"PLTE", bytes([0, 0, 0, 90, 20, 40, 130, 200, 60, 255, 240, 250])))
    files["palette-short.png"] = png(40, 44, 8, 3, [row.tobytes() for row in levels(40, 44, 1, 5)[..., 0]],
                                     chunk(b"PLTE", bytes([200, 0, 0, 90, 20, 40, 130, 200, 60, 255, 240, 250])))
    files["grey8-interlaced.png"] = interlaced(levels(61, 47, 1)[..., 0])
    files["grey16.png"] = png(61, 47, 16, 0, [row.tobytes() for row in deep(61, 47, 1)])
    files["grey16-alpha.png"] = png(46, 53, 16, 4, [row.tobytes() for row in deep(46, 53, 2)])
    files["rgb16.png"] = png(46, 53, 16, 2, [row.tobytes() for row in deep(46, 53, 3)])
    files["rgba16.png"] = png(46, 53, 16, 6, [row.tobytes() for row in deep(46, 53, 4)])
    # A transparent colour, which convert("RGB") ignores.
    files["rgb8-transparent.png"] = png(40, 44, 8, 2, [row.tobytes() for row in levels(40, 44, 3, 3) * 80],
                                        chunk(b"tRNS", struct.pack(">HHH", 80, 80, 80)))

    # JPEG: grey, three chroma samplings, progressive, restart markers, RGB, CMYK, YCCK, an orientation to ignore.
    save("grey.jpg", Image.fromarray(levels(61, 47, 1)[..., 0]), quality=90)
    save("grey-progressive.jpg", Image.fromarray(levels(47, 61, 1)[..., 0]), quality=90, progressive=True)
    save("grey-in-colour.jpg", Image.fromarray(np.repeat(levels(65, 49, 1), 3, -1)), quality=85, subsampling="4:2:0")
    colour = Image.fromarray(levels(61, 47, 3))
    save("colour-444.jpg", colour, quality=90, subsampling="4:4:4")
    save("colour-422.jpg", colour, quality=90, subsampling="4:2:2")
    save("colour-420.jpg", colour, quality=90, subsampling="4:2:0")
    save("colour-420-progressive.jpg", colour, quality=90, subsampling="4:2:0", progressive=True)
    save("colour-restarts.jpg", colour, quality=90, subsampling="4:4:4", restart_marker_blocks=2)
    save("rgb.jpg", colour, quality=90, keep_rgb=True)
    save("cmyk.jpg", Image.fromarray(levels(61, 47, 4), "CMYK"), quality=90, subsampling="4:4:4")
    ycck = bytearray(files["cmyk.jpg"])
    # The transform byte of Adobe's segment: 0 is CMYK, 2 is YCCK.
    ycck[ycck.find(b"Adobe") + 11] = 2
    files["ycck.jpg"] = bytes(ycck)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("orientation.jpg", Image.fromarray(levels(61, 47, 1)[..., 0]), quality=90, exif=exif)
    # Wider than the resized image is tall, and narrower.
    save("wide.png", Image.fromarray(levels(150, 31, 1)[..., 0]))
    save("tall.png", Image.fromarray(levels(31, 150, 3)))
    # Shrunk so much more in height than in width that Pillow 13 filters along the columns first.
    save("tall-shrunk.png", Image.fromarray(levels(60, 200, 3)))
    return files


def bad(files):
    """name -> bytes of files that must be refused."""
    whole_png, whole_jpeg = files["grey8.png"], files["colour-420.jpg"]
    # Noise, so that half of the file is half of the pixels.
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 40), dtype=np.uint8)).save(noise, "PNG")
    noise = noise.getvalue()
    flipped = bytearray(noise)
    flipped[len(noise) // 2] ^= 0x10
    huge_jpeg = bytearray(whole_jpeg)
    frame = whole_jpeg.find(b"\xff\xc0")
    huge_jpeg[frame + 5:frame + 9] = struct.pack(">HH", 30000, 30000)
    gif = io.BytesIO()
    Image.new("L", (8, 8)).save(gif, "GIF")
    return {
        "empty.png": b"",
        "empty.jpg": b"",
        "text.png": b"This is not an image.\n",
        "gif.png": gif.getvalue(),
        "dicom.jpg": bytes(128) + b"DICM" + bytes(32),
        "signature-only.png": whole_png[:8],
        "header-only.png": whole_png[:33],
        "truncated.png": noise[:len(noise) // 2],
        "damaged.png": bytes(flipped),
        "no-size.png": png(0, 10, 8, 0, []),
        "no-palette.png": png(8, 8, 8, 3, [bytes(8)] * 8),
        "huge.png": png(30000, 30000, 8, 0, [bytes(8)]),
        "elongated.png": png(1, 10000, 8, 0, [bytes(1)] * 10000),
        "marker-only.jpg": whole_jpeg[:3],
        "truncated.jpg": whole_jpeg[:len(whole_jpeg) * 2 // 3],
        "no-end.jpg": whole_jpeg[:-2],
        "huge.jpg": bytes(huge_jpeg),
        "no-frame.jpg": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9",
    }


# --- what torchvision makes of them -----------------------------------------------------------------------------


def fixed(image, size):
    """The fixed transform on a Pillow image, before ToTensor."""
    return F.center_crop(F.resize(image, round(size * 256 / 224)), size)


def planes(image):
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


SEED_CASES = [
    # file, angle in degrees, top, left, height, width, flip; the crop lies in the image resized to a short side of 55.
    ("grey8.png", 0.0, 0, 0, 55, 71, False),
    ("grey8.png", 17.25, 5, 9, 40, 44, False),
    ("grey8.png", -29.9, 1, 3, 50, 60, True),
    ("rgb8.png", 8.125, 20, 2, 31, 37, True),
    ("rgba8.png", -3.5, 0, 0, 16, 20, False),
    ("wide.png", 30.0, 3, 100, 48, 62, True),
    ("tall.png", -12.0, 160, 4, 52, 41, False),
    ("palette8.png", 21.7, 7, 11, 48, 48, False),
    ("colour-444.jpg", -25.0, 4, 8, 44, 52, True),
    ("cmyk.jpg", 5.0, 10, 10, 30, 30, False),
]


def write_synthetic():
    for folder in ("images", "decoded", "expected", "seed", "bad"):
        shutil.rmtree(OUT / folder, ignore_errors=True)
        (OUT / folder).mkdir(parents=True)
    files = synthetic()
    cases = {"versions": found_versions(), "sizes": SIZES, "seed_size": SEED_SIZE, "images": [], "seed": []}
    for name, data in files.items():
        (OUT / "images" / name).write_bytes(data)
        image = Image.open(io.BytesIO(data))
        deep = image.mode == "I;16"
        cases["images"].append({"name": name, "width": image.width, "height": image.height, "deep": deep})
        if deep:
            (OUT / "decoded" / f"{name}.u16").write_bytes(np.asarray(image).astype("<u2").tobytes())
        else:
            (OUT / "decoded" / f"{name}.rgb").write_bytes(image.convert("RGB").tobytes())
        for size in SIZES:
            if deep:
                values = np.asarray(fixed(image, size)).astype("<f4") / np.float32(257)
                (OUT / "expected" / f"{name}.{size}.f32").write_bytes(values.tobytes())
            else:
                expected = planes(fixed(image.convert("RGB"), size))
                (OUT / "expected" / f"{name}.{size}.raw").write_bytes(expected.tobytes())
    for number, (name, angle, top, left, height, width, flip) in enumerate(SEED_CASES):
        image = Image.open(io.BytesIO(files[name])).convert("RGB")
        image = F.resize(image, round(SEED_SIZE * 256 / 224))
        assert top + height <= image.height and left + width <= image.width, (name, image.size)
        image = F.resized_crop(F.rotate(image, angle), top, left, height, width, [SEED_SIZE, SEED_SIZE])
        if flip:
            image = F.hflip(image)
        (OUT / "seed" / f"{number}.raw").write_bytes(planes(image).tobytes())
        cases["seed"].append({"name": name, "angle_degrees": angle, "top": top, "left": left, "height": height,
                              "width": width, "flip": flip})
    for name, data in bad(files).items():
        (OUT / "bad" / name).write_bytes(data)
    (OUT / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


def write_real(data):
    rng = np.random.default_rng(64)
    positions = {size: rng.integers(0, 3 * size * size, SAMPLES) for size in REAL_SIZES}
    small = sorted((data / "cxr").glob("*/*/*.jpg"))
    paths = sorted(path for path in (data / "originals").iterdir() if path.suffix != ".csv") + small[::REAL_STEP]
    files = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        entry = {"path": path.relative_to(data).as_posix(), "expected": {}}
        for size in REAL_SIZES:
            values = planes(fixed(image, size)).ravel()
            entry["expected"][str(size)] = {"sum": int(values.sum(dtype=np.int64)),
                                            "samples": values[positions[size]].tolist()}
        files.append(entry)
    real = {"versions": found_versions(),
            "positions": {str(size): found.tolist() for size, found in positions.items()}, "files": files}
    (OUT / "real.json").write_text(json.dumps(real, separators=(",", ":")).replace('{"path"', '\n{"path"') + "\n")


def main():
    if found_versions() != PINNED:
        warnings.warn(f"the committed fixtures were written with {PINNED}, this is {found_versions()}")
    write_synthetic()
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    if data.is_dir():
        write_real(data)
    else:
        print(f"skipped: real.json, because {data} is absent")


if __name__ == "__main__":
    main()
