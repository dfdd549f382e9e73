#!/usr/bin/env python3
"""Trains with PyTorch and with roentgen from the same weights on the same images, and prints the losses side by side.

    python side_by_side.py --torch-script TORCH.py --roentgen ../target/release/roentgen --data DIR --out /tmp/side

Nothing random is left: no augmentation, no shuffling, no dropout. What differs is float32 rounding and the decoding and
resizing of images, which may be a grey level apart. `--torch-script` is a program with these two commands:

    init   --arch A --classes K --seed N --out P     writes the start weights as P.zip.pth
    train  --arch A --weights FILE --data DIR --out RUN ... (the flags below)    writes RUN/history.json with `step_loss`
"""

import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys


def execute(command):
    print("+", " ".join(command), file=sys.stderr, flush=True)
    # The losses of this script are its only output: what the two programs print goes beside it.
    subprocess.run(command, check=True, stdout=sys.stderr)


def torch_losses(arguments, weights, shared_flags):
    run = arguments.out / "torch"
    flags = ["--out", str(run), "--weights", weights, *shared_flags]
    execute([sys.executable, arguments.torch_script, "train", *flags])
    return json.loads((run / "history.json").read_text())["step_loss"]


def roentgen_losses(arguments, weights, shared_flags):
    run = arguments.out / "roentgen"
    execute([arguments.roentgen, "train", "--out", str(run), "--weights", weights, *shared_flags])
    with open(run / "steps.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-script", required=True)
    parser.add_argument("--roentgen", default="roentgen", help="the binary")
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder for both runs; must not hold a run yet")
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--unfreeze", default="all")
    parser.add_argument("--frozen-bn", choices=["eval", "train"], default="eval")
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0, help="of the start weights")
    parser.add_argument("--tolerance", type=float, default=0.01, help="relative to max(|loss|, 0.01); beyond it, exit code 1")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    classes = [f for f in (arguments.data / "train").iterdir() if f.is_dir() and not f.name.startswith(".")]
    start = str(arguments.out / "start")
    init = ["--arch", arguments.arch, "--classes", str(len(classes)), "--seed", str(arguments.seed), "--out", start]
    execute([sys.executable, arguments.torch_script, "init", *init])

    settings = {
        "--data": arguments.data, "--arch": arguments.arch, "--unfreeze": arguments.unfreeze,
        "--frozen-bn": arguments.frozen_bn, "--lr": arguments.lr, "--momentum": arguments.momentum,
        "--batch-size": arguments.batch_size, "--epochs": arguments.epochs, "--max-steps": arguments.max_steps,
        "--threads": arguments.threads, "--dropout": 0, "--augment": "none",
    }
    shared_flags = [text for name, value in settings.items() for text in (name, str(value))] + ["--no-shuffle"]
    torch_run = torch_losses(arguments, start + ".zip.pth", shared_flags)
    roentgen_run = roentgen_losses(arguments, start + ".zip.pth", shared_flags)

    print(f"{'step':>5}  {'PyTorch':>11}  {'roentgen':>11}  {'relative':>9}")
    worst = 0.0
    for step, (expected, found) in enumerate(zip(torch_run, roentgen_run), start=1):
        difference = abs(found - expected) / max(abs(expected), 0.01)
        worst = max(worst, difference)
        print(f"{step:5}  {expected:11.7f}  {found:11.7f}  {difference:9.1e}")
    print(f"largest relative difference: {worst:.1e}")
    if len(torch_run) != len(roentgen_run):
        sys.exit(f"PyTorch took {len(torch_run)} steps, roentgen {len(roentgen_run)}")
    if not worst <= arguments.tolerance:
        sys.exit(f"more than the tolerance of {arguments.tolerance:g}")


if __name__ == "__main__":
    main()
