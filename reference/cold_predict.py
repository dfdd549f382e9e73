#!/usr/bin/env python3
"""Times one prediction from the shell's point of view: a process starts, reads ResNet-18 weights and one image, answers, ends.

    python cold_predict.py ../target/release/roentgen IMAGE [--rounds 10]

roentgen and Python with torchvision take turns, both on the same `.pth` (random weights, written to a temporary folder)
and the same image, with the files in the system's cache. Prints the median of each, their ratio, and whether they agree.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

PEER = """
import json, sys
import torch
from PIL import Image
from torchvision import models, transforms

weights, path = sys.argv[1:]
net = models.resnet18(weights=None)
net.load_state_dict(torch.load(weights, weights_only=True))
net.eval()
prepare = transforms.Compose([
    transforms.Resize(256),
    transforms.CenterCrop(224),
    transforms.ToTensor(),
    transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
])
with torch.inference_mode():
    logits = net(prepare(Image.open(path).convert("RGB"))[None])[0]
print(json.dumps({"logits": logits.tolist()}))
"""


def timed(command):
    """Seconds from start to end, and the logits that were printed."""
    begun = time.perf_counter()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - begun, json.loads(output)["logits"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roentgen")
    parser.add_argument("image")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder) / "resnet18.pth"
        # In a process of its own: this one stays small.
        make = "import sys, torch; from torchvision import models; torch.manual_seed(0); " \
               "torch.save(models.resnet18(weights=None).state_dict(), sys.argv[1])"
        subprocess.run([sys.executable, "-c", make, weights], check=True)
        ours = [arguments.roentgen, "predict", "--arch", "resnet18", "--weights", weights, arguments.image, "--json"]
        peer = [sys.executable, "-c", PEER, weights, arguments.image]
        seconds = {"roentgen": [], "python": []}
        for round_number in range(arguments.rounds + 1):
            for name, command in (("roentgen", ours), ("python", peer)):
                taken, logits = timed(command)
                if round_number > 0:  # the first fills the system's cache
                    seconds[name].append(taken)
                if name == "roentgen":
                    our_logits = logits
        difference = max(abs(a - b) for a, b in zip(our_logits, logits))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, times in seconds.items():
        print(f"{name:8}  median {medians[name]:.3f} s  (from {min(times):.3f} to {max(times):.3f}, {len(times)} rounds)")
    print(f"roentgen takes 1/{medians['python'] / medians['roentgen']:.1f} of python's time; "
          f"largest difference of a logit {difference:.1e}")


if __name__ == "__main__":
    main()
