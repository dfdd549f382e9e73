#!/usr/bin/env python3
"""Opens a model that `roentgen train` or `roentgen export` saved in PyTorch, and prints the logits of images.

    python open_in_torch.py RUN_DIR|MODEL.safetensors [IMAGE ...]

The file holds torchvision's names and nothing else, so that the head is all that the network needs before
`load_state_dict(strict=True)`. The printed JSON lines have the keys of `roentgen predict --json`: their logits differ
by the resize's rounding and by float32, about 1e-3 of the largest.
"""

import argparse
import json
import pathlib

import safetensors
import safetensors.torch
import torch
from PIL import Image
from torchvision import models, transforms

import networks


def open_model(path):
    """The network in evaluation mode, and what the file says of itself."""
    with safetensors.safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["roentgen"])
    architecture, classes, hidden = (description[key] for key in ("architecture", "classes", "hidden"))
    if hidden is None:  # torchvision's own head
        net = getattr(models, architecture)(weights=None, num_classes=len(classes))
    else:
        net = networks.build(architecture, len(classes), hidden, description["dropout"] or 0.0)
    net.load_state_dict(safetensors.torch.load_file(path), strict=True)
    return net.eval(), description


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="run directory, or a model.safetensors")
    parser.add_argument("images", nargs="*")
    arguments = parser.parse_args()
    path = arguments.run / "model.safetensors" if arguments.run.is_dir() else arguments.run
    net, description = open_model(path)
    tensors = net.state_dict()
    elements = sum(tensor.numel() for tensor in tensors.values())
    print(f"{path}: {description['architecture']}, {len(tensors)} tensors, {elements} elements, loaded with strict=True")

    how = description["preprocessing"]
    prepare = transforms.Compose([
        transforms.Resize(how["resize_short_side"]),
        transforms.CenterCrop(how["crop"]),
        transforms.ToTensor(),
        transforms.Normalize(how["mean"], how["standard_deviation"]),
    ])
    for image in arguments.images:
        with torch.inference_mode():
            logits = net(prepare(Image.open(image).convert("RGB"))[None])[0]
        probabilities = dict(zip(description["classes"], logits.softmax(0).tolist()))
        predicted = max(probabilities, key=probabilities.get)
        print(json.dumps({"path": image, "predicted": predicted, "probabilities": probabilities, "logits": logits.tolist()}))


if __name__ == "__main__":
    main()
