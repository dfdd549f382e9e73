"""Writes crates/data/tests/fixtures/clahe: what OpenCV's createCLAHE makes of some of the images of preprocess_fixtures.py.

    pip install opencv-python-headless==5.0.0.93 numpy
    python reference/clahe_fixtures.py
"""

import json
from pathlib import Path

import cv2
import numpy as np

FIXTURES = Path("crates/data/tests/fixtures")
# Name and clip limit; the tiles are 8 x 8. Sides of which only one is a multiple of 8 are left out: OpenCV then adds 8
# mirrored pixels to that side as well.
CASES = [("grey8", 2.0), ("wide", 2.0), ("bit1", 40.0)]


def main():
    sizes = {case["name"]: (case["height"], case["width"], 3)
             for case in json.loads((FIXTURES / "cases.json").read_text())["images"]}
    (FIXTURES / "clahe").mkdir(exist_ok=True)
    for name, limit in CASES:
        pixels = np.fromfile(FIXTURES / "decoded" / f"{name}.png.rgb", np.uint8).reshape(sizes[f"{name}.png"])
        grey = np.ascontiguousarray(pixels[..., 0])
        (FIXTURES / "clahe" / f"{name}.raw").write_bytes(cv2.createCLAHE(limit, (8, 8)).apply(grey).tobytes())


if __name__ == "__main__":
    main()
