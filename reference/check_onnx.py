#!/usr/bin/env python3
"""Runs a model that `roentgen export` wrote in ONNX Runtime, and compares its logits with roentgen's.

    roentgen export RUN --format onnx --out model.onnx
    roentgen predict RUN IMAGE... --json | python check_onnx.py model.onnx

The images are prepared here, with Pillow, from what the file's metadata say and nothing else. Give PNGs: there the two
programs see the same pixels, and the logits differ by float32 alone. Two JPEG decoders differ by a grey level.

    python check_onnx.py model.onnx --tensors inputs.f32 logits.f32

compares on tensors as they are: little-endian f32, `[N, 3, S, S]` and `[N, classes]`. Prints the largest difference and
exits with 1 where it exceeds `--tolerance`, relative to the largest logit or to 1.
"""

import argparse
import json
import sys

import numpy as np
import onnxruntime


def prepare(path, how):
    """An image file as the network's input, [3, S, S]."""
    from PIL import Image

    image = Image.open(path)
    if image.mode.startswith("I"):
        raise SystemExit(f"{path}: 16 bits a pixel; Pillow cannot prepare these as roentgen does")
    image = image.convert("RGB")
    short, crop = how["resize_short_side"], how["centre_crop"]
    width, height = image.size
    scaled = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - crop) / 2), round((scaled[1] - crop) / 2)
    pixels = np.asarray(image.crop((left, top, left + crop, top + crop)), dtype=np.float32) / how["divide_by"]
    mean, deviation = (np.array(how[key], dtype=np.float32) for key in ("mean", "standard_deviation"))
    return ((pixels - mean) / deviation).transpose(2, 0, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tensors", nargs=2, metavar=("INPUTS", "LOGITS"))
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()

    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    classes = json.loads(metadata["classes"])
    side = session.get_inputs()[0].shape[2]
    if arguments.tensors:
        inputs = np.fromfile(arguments.tensors[0], dtype="<f4").reshape(-1, 3, side, side)
        ours = np.fromfile(arguments.tensors[1], dtype="<f4").reshape(-1, len(classes))
    else:
        lines = [json.loads(line) for line in sys.stdin]
        how = json.loads(metadata["preprocessing"])
        inputs = np.stack([prepare(line["path"], how) for line in lines]).astype(np.float32)
        ours = np.array([line["logits"] for line in lines], dtype=np.float32)
    logits, probabilities = session.run(["logits", "probabilities"], {"input": inputs})

    difference = np.abs(logits - ours).max()
    largest = max(1.0, np.abs(ours).max())
    softmax = np.exp(ours - ours.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    agreed = int((logits.argmax(1) == ours.argmax(1)).sum())
    print(f"{arguments.model}: {len(inputs)} images of {side} px, {len(classes)} classes, onnxruntime {onnxruntime.__version__}")
    print(f"largest difference of a logit {difference:.2e}, of a probability {np.abs(probabilities - softmax).max():.2e}; "
          f"largest logit {largest:.2f}; {agreed} of {len(inputs)} predicted alike")
    for key in sorted(metadata.keys() - {"roentgen"}):
        print(f"{key}: {metadata[key][:200]}")
    if not difference <= arguments.tolerance * largest:
        raise SystemExit(f"the logits differ by more than {arguments.tolerance} of the largest")


if __name__ == "__main__":
    main()
