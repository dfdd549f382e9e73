#!/usr/bin/env python3
"""How fast image files become tensors: roentgen beside torchvision with Pillow, in turns, and the ratio.

    cargo build --release
    python reference/data_speed.py ../shared/data/originals/0*.png

Both read the files, decode them, and apply the augmentation `seed` (Resize(256), RandomRotation(30), RandomResizedCrop(224),
RandomHorizontalFlip, ToTensor, Normalize), on one core. In each round both run once, so that what else the machine does meets
them alike; a speed is the median over the rounds, and behind a ratio stands the range of the ratios within single rounds.
The speed from roentgen's cache of decoded images is beside them.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms


def peer():
    """The transform of torchvision."""
    return transforms.Compose([
        transforms.Resize(256),
        transforms.RandomRotation(30),
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])


def peer_images_per_s(files, transform):
    """One pass over the files."""
    begun = time.perf_counter()
    for file in files:
        with Image.open(file) as image:
            transform(image.convert("RGB"))
    return len(files) / (time.perf_counter() - begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--roentgen", default="target/release/roentgen", help="the binary")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    command = [arguments.roentgen, "bench", "--data", *arguments.files, "--augment", "seed", "--threads", "1", "--rounds", "3",
               "--json"]
    transform = peer()
    peer_images_per_s(arguments.files, transform)
    ours, first, cached, theirs = [], [], [], []
    for _ in range(arguments.rounds):
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ours.append(answer["decode"]["images_per_s"])
        first.append(answer["cached_first_pass"]["images_per_s"])
        cached.append(answer["cached"]["images_per_s"])
        theirs.append(peer_images_per_s(arguments.files, transform))
    ratios = [one / other for one, other in zip(ours, theirs)]
    name = f"torchvision {torchvision.__version__.split('+')[0]}, Pillow {PIL.__version__}"
    print(f"{len(arguments.files)} files, one core, {arguments.rounds} rounds, images/s")
    print(f"{name:36} {statistics.median(theirs):8.1f}")
    print(f"{'roentgen, from files':36} {statistics.median(ours):8.1f}")
    print(f"{'roentgen, cache, first pass':36} {statistics.median(first):8.1f}")
    print(f"{'roentgen, from its cache':36} {statistics.median(cached):8.1f}")
    median = statistics.median(ours) / statistics.median(theirs)
    print(f"ratio {median:.2f} (in single rounds {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
