#!/usr/bin/env python3
"""Runs whole experiments with roentgen and with PyTorch in turns on this machine, and prints the ratios of wall time.

    cargo build --release
    python experiment_speed.py --torch-script TORCH.py --data DIR --rows head            # some minutes
    python experiment_speed.py --torch-script TORCH.py --data DIR                        # all rows: most of an hour
    python experiment_speed.py --list

A time is that of whole processes, from the start to the metrics of the test images: decoding, training, validation and evaluation
are in it, on both sides. PyTorch runs channels-last, with each of `--torch-precisions`; of ours and of theirs, the fastest
counts; a run that rows share is timed once a round on their side, and each row's work whole on ours. `--torch-script` is the
assignment's recipe with a command `train` (see side_by_side.py); it takes --arch, --unfreeze, --data, --out, --epochs, --batch-
size, --augment, --precision, --channels-last and --threads, and evaluates the test images.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from speed import processor

HERE = pathlib.Path(__file__).resolve().parent
EXPERIMENTS = HERE.parent / "experiments"
# Longer than any process takes.
TIMEOUT_S = 7200

# Everything from a convolution of layer3 or later on, as PyTorch's parameter names, and the head alone: eight plans.
SUFFIXES = [
    "head",
    "layer4.1.conv2,layer4.1.bn2,head",
    "layer4.1,head",
    "layer4.0.conv2,layer4.0.bn2,layer4.0.downsample,layer4.1,head",
    "layer4,head",
    "layer3.1.conv2,layer3.1.bn2,layer4,head",
    "layer3.1,layer4,head",
    "layer3,layer4,head",
]
VGG16 = [
    "head",
    "features.10,head",
    "features.0,features.5,features.10,features.12,features.19,features.21,features.26,features.28,head",
    "all",
]


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: one piece of work, done whole by both sides."""

    key: str
    title: str
    # The most that our time may be of PyTorch's.
    target: float
    aim: float
    # (architecture, what is trained) of each of PyTorch's runs.
    torch_runs: tuple
    epochs: int
    augment: str
    # What roentgen is asked for: `train`, `search`, or the rows of the assignment that run.
    ours: str
    # PyTorch computes the features once, by torch_cached_features.py.
    cached: bool = False


ROWS = [
    Row("head", "ResNet-18, head only, no augmentation", 1 / 5, 1 / 8, (("resnet18", "head"),), 10, "none", "train"),
    Row("cached", "the same, against features kept by hand", 1.0, 0.8, (("resnet18", "head"),), 10, "none", "train", cached=True),
    Row("search", "search over the suffixes of layer3 and later, against eight runs", 1 / 4, 1 / 6,
        tuple(("resnet18", plan) for plan in SUFFIXES), 3, "seed", "search"),
    Row("vgg16", "the four VGG-16 rows", 1 / 1.4, 1 / 1.8, tuple(("vgg16", plan) for plan in VGG16), 1, "seed", "vgg16"),
    Row("six", "all six rows", 1 / 1.4, 1 / 1.8, tuple(("vgg16", plan) for plan in VGG16) + (("resnet18", "head"), ("resnet18", "all")),
        1, "seed", "six"),
]


def timed(command, threads):
    """The wall time of a program in seconds. What it prints is shown where it fails."""
    begun = time.perf_counter()
    variables = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run([str(part) for part in command], env=variables, text=True, capture_output=True, timeout=TIMEOUT_S)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return time.perf_counter() - begun


class Race:
    """The two sides, with their settings and a folder for what they write."""

    def __init__(self, arguments, scratch):
        self.arguments, self.scratch, self.number = arguments, scratch, 0
        # Seconds of PyTorch's runs of this round: rows share some of them.
        self.timed_runs = {}

    def folder(self):
        """A new path for a program to write to."""
        self.number += 1
        return self.scratch / str(self.number)

    def epochs(self, row):
        return self.arguments.epochs or row.epochs

    def torch(self, row, precision):
        """Seconds of PyTorch's runs, one after the other."""
        arguments, total = self.arguments, 0.0
        for architecture, plan in row.torch_runs:
            settings = ["--torch-script", arguments.torch_script] if row.cached else ["--unfreeze", plan, "--augment", row.augment]
            settings += ["--arch", architecture, "--data", arguments.data, "--epochs", self.epochs(row), "--threads", arguments.threads]
            settings += ["--batch-size", arguments.batch_size, "--precision", precision]
            run = tuple(settings)
            if run not in self.timed_runs:
                if row.cached:
                    command = [sys.executable, HERE / "torch_cached_features.py", *settings]
                else:
                    command = [sys.executable, arguments.torch_script, "train", *settings, "--channels-last", "--out", self.folder()]
                self.timed_runs[run] = timed(command, arguments.threads)
            total += self.timed_runs[run]
        return total

    def roentgen(self, row, precision):
        """Seconds of the same work here."""
        arguments, out = self.arguments, self.folder()
        settings = ["--data", arguments.data, "--weights", "none", "--epochs", self.epochs(row), "--batch-size", arguments.batch_size]
        settings += ["--augment", row.augment, "--precision", precision, "--threads", arguments.threads, "--out", out]
        if row.ours == "train":
            trained = timed([arguments.roentgen, "train", "--arch", "resnet18", "--unfreeze", "head", *settings], arguments.threads)
            evaluation = [arguments.roentgen, "evaluate", out, "--data", arguments.data, "--split", "test"]
            return trained + timed([*evaluation, "--threads", arguments.threads], arguments.threads)
        if row.ours == "search":
            search = ["search", "--arch", "resnet18", "--among", "layer3,layer4", "--min-epochs", 1, "--finalists", 1, "--seeds", 0]
            return timed([arguments.roentgen, *search, *settings], arguments.threads)
        return timed([arguments.roentgen, "experiment", self.assignment(row), *settings], arguments.threads)

    def assignment(self, row):
        """The assignment's file, cut behind its VGG-16 rows where only they are asked for."""
        text = (EXPERIMENTS / "assignment.toml").read_text()
        if row.ours == "vgg16":
            text = text[: text.index('[[row]]\nname = "resnet18-head"')]
        file = self.scratch / f"{row.ours}.toml"
        file.write_text(text)
        return file


def measure(race, rows, rounds):
    """{(row, side, precision): seconds by round}, the sides in turns."""
    contestants = [(race.roentgen, "roentgen", precision) for precision in race.arguments.precisions.split(",")]
    contestants += [(race.torch, "PyTorch", precision) for precision in race.arguments.torch_precisions.split(",")]
    seconds = {}
    for number in range(rounds):
        race.timed_runs.clear()
        for row in rows:
            for run, side, precision in contestants:
                took = run(row, precision)
                seconds.setdefault((row, side, precision), []).append(took)
                print(f"  {row.key}, round {number + 1} of {rounds}: {side} {precision} {took:.1f} s", file=sys.stderr, flush=True)
    return seconds


def table(race, rows, seconds):
    """The ratios, as lines of a Markdown table."""
    lines = ["| work | epochs | ours at best | PyTorch at best | ratio | target | aim | |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        medians = {key[1:]: statistics.median(took) for key, took in seconds.items() if key[0] == row}
        best = lambda side: min((took, precision) for (whose, precision), took in medians.items() if whose == side)
        (ours, our_precision), (theirs, their_precision) = best("roentgen"), best("PyTorch")
        ratio = ours / theirs
        verdict = "aim reached" if ratio <= row.aim else "reached" if ratio <= row.target else "MISSED"
        lines.append(
            f"| {row.title} | {race.epochs(row)} | {ours:.1f} s ({our_precision}) | "
            f"{theirs:.1f} s ({their_precision}) | {ratio:.3f} | <= {row.target:.2f} | <= {row.aim:.2f} | {verdict} |"
        )
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roentgen", type=pathlib.Path, default=HERE.parent / "target/release/roentgen", help="the binary")
    parser.add_argument("--torch-script", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--rows", default=",".join(row.key for row in ROWS), help="keys of rows, with commas between; --list shows them")
    parser.add_argument("--rounds", type=int, default=1, help="how often each contestant runs")
    parser.add_argument("--epochs", type=int, help="of every run, instead of the row's own")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precisions", default="f32,bf16", help="which of ours take part")
    parser.add_argument("--torch-precisions", default="f32,bf16", help="which of PyTorch's take part")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="list the rows and leave")
    arguments = parser.parse_args()
    known = {row.key: row for row in ROWS}
    if arguments.list:
        print("\n".join(f"{row.key:8} {row.title}" for row in ROWS))
        return
    unknown = [key for key in arguments.rows.split(",") if key not in known]
    if unknown:
        parser.error(f"unknown rows: {', '.join(unknown)}; known: {', '.join(known)}")
    if arguments.torch_script is None or arguments.data is None:
        parser.error("--torch-script and --data are needed")
    arguments.roentgen, arguments.data = arguments.roentgen.resolve(), arguments.data.resolve()
    rows = [known[key] for key in arguments.rows.split(",")]
    print(f"{processor()}, {os.cpu_count()} cores, {arguments.threads} threads, batches of {arguments.batch_size}", flush=True)
    with tempfile.TemporaryDirectory(prefix="roentgen-experiments-") as scratch:
        race = Race(arguments, pathlib.Path(scratch))
        seconds = measure(race, rows, arguments.rounds)
    print("\n" + "\n".join(table(race, rows, seconds)))


if __name__ == "__main__":
    main()
