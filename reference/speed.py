#!/usr/bin/env python3
"""Runs roentgen and its peers in alternation on this machine, and prints how much faster it is, beside the targets.

    cargo build --release
    python speed.py                                        # every row, 3 rounds: about half an hour
    python speed.py --rows resnet18-train,vgg16-train --rounds 5
    python speed.py --list

In each round each contestant runs once, in a fresh process, so that its peak memory is its own and what else the machine does
meets all of them alike. A speed is the median over a contestant's iterations, and then over the rounds. A ratio is ours over that
of the best peer, of these medians; behind it stands the range of the ratios within single rounds. Weights are random: speed does
not depend on them.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# Longer than any contestant takes, compiling included.
TIMEOUT_S = 1800


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A program with its settings. `isa` is what it is held down to."""

    name: str
    peer: str
    precision: str = "f32"
    isa: str | None = None

    def packages(self):
        """What has to be installed."""
        return {
            "roentgen": [],
            "torch": ["torch", "torchvision"],
            "torch-compile": ["torch", "torchvision"],
            "onnxruntime": ["torch", "torchvision", "onnxscript", "onnxruntime"],
            "openvino": ["torch", "torchvision", "onnxscript", "openvino"],
        }[self.peer]

    def environment(self, threads):
        """The variables of its process."""
        variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if self.isa == "avx2":
            variables |= {"ROENTGEN_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
        return variables


OURS = Contestant("roentgen f32", "roentgen")
OURS_BF16 = Contestant("roentgen bf16", "roentgen", "bf16")
TORCH = Contestant("PyTorch f32", "torch")
TORCH_BF16 = Contestant("PyTorch bf16", "torch", "bf16")
COMPILED = Contestant("torch.compile f32", "torch-compile")
COMPILED_BF16 = Contestant("torch.compile bf16", "torch-compile", "bf16")
ONNX = Contestant("ONNX Runtime f32", "onnxruntime")
OPENVINO = Contestant("OpenVINO f32", "openvino")
OPENVINO_BF16 = Contestant("OpenVINO bf16", "openvino", "bf16")
OURS_AVX2 = Contestant("roentgen f32, AVX2", "roentgen", isa="avx2")
TORCH_AVX2 = Contestant("PyTorch f32, AVX2", "torch", isa="avx2")

FORWARD = [TORCH, COMPILED, ONNX, OPENVINO]
FORWARD_BF16 = [TORCH_BF16, COMPILED_BF16, OPENVINO_BF16]


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table. Of several of ours and of several peers, the best counts."""

    key: str
    title: str
    arch: str
    batch_size: int
    what: str
    ours: list
    peers: list
    target: float
    aim: float
    # What is compared, and whether less of it is better: the target is then the most that the ratio may be.
    figure: str = "images_per_s"
    less_is_better: bool = False


ROWS = [
    Row("resnet18-train", "ResNet-18 training step, batch 16, f32", "resnet18", 16, "train", [OURS], [TORCH], 1.7, 2.2),
    Row("resnet18-train-fastest", "ResNet-18 training step, batch 16, our fastest mode against bf16", "resnet18", 16, "train",
        [OURS, OURS_BF16], [TORCH_BF16], 1.0, 1.3),
    Row("vgg16-train", "VGG-16 training step, batch 8, f32", "vgg16", 8, "train", [OURS], [TORCH], 2.7, 3.5),
    Row("vgg16-train-fastest", "VGG-16 training step, batch 8, our fastest mode against bf16", "vgg16", 8, "train",
        [OURS, OURS_BF16], [TORCH_BF16], 1.4, 1.8),
    Row("resnet18-forward", "ResNet-18 forward, batch 16, f32", "resnet18", 16, "forward", [OURS], FORWARD, 1.7, 2.2),
    Row("resnet18-forward-fastest", "ResNet-18 forward, batch 16, our fastest mode against bf16", "resnet18", 16, "forward",
        [OURS, OURS_BF16], FORWARD_BF16, 0.95, 1.2),
    Row("vgg16-forward", "VGG-16 forward, batch 8, f32", "vgg16", 8, "forward", [OURS], FORWARD, 2.7, 3.4),
    Row("vgg16-forward-fastest", "VGG-16 forward, batch 8, our fastest mode against bf16", "vgg16", 8, "forward",
        [OURS, OURS_BF16], FORWARD_BF16, 1.3, 1.7),
    Row("resnet18-memory", "ResNet-18 training step, batch 16, f32, peak memory", "resnet18", 16, "train", [OURS], [TORCH],
        0.7, 0.5, "peak_rss_mb", True),
    Row("vgg16-memory", "VGG-16 training step, batch 8, f32, peak memory", "vgg16", 8, "train", [OURS], [TORCH],
        0.7, 0.5, "peak_rss_mb", True),
    Row("resnet18-train-avx2", "ResNet-18 training step, batch 16, f32, AVX2 forced on both", "resnet18", 16, "train",
        [OURS_AVX2], [TORCH_AVX2], 1.3, 2.0),
]


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process measures. `roentgen bench` answers for both passes; the others run one."""

    contestant: Contestant
    arch: str
    batch_size: int
    what: str | None

    def title(self):
        passes = {"train": "training step", "forward": "forward", None: "training step and forward"}[self.what]
        return f"{self.contestant.name}: {self.arch}, batch {self.batch_size}, {passes}"


def job_of(row, contestant):
    return Job(contestant, row.arch, row.batch_size, None if contestant.peer == "roentgen" else row.what)


class Unavailable(Exception):
    """A contestant that cannot take part, and why."""


def run(command, variables):
    """The JSON object in the last line of a program's answer."""
    try:
        done = subprocess.run(
            [str(part) for part in command], env=os.environ | variables, cwd=HERE, text=True, capture_output=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"took more than {TIMEOUT_S} s") from error
    except OSError as error:
        raise Unavailable(str(error)) from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        # Programs name their error in a line that begins so, and go on with advice; Python's own stands last.
        reason = next((line for line in lines if line.startswith("error:")), lines[-1])
        raise Unavailable(f"exit code {done.returncode}: {reason}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Race:
    """The contestants, what they need, and what was measured so far."""

    def __init__(self, arguments, scratch):
        self.arguments = arguments
        self.scratch = scratch
        self.versions = run([sys.executable, HERE / "speed_peers.py", "versions"], {})
        self.figures = {}
        self.why_not = {}
        # Compiled once, and found again in later rounds.
        self.cache = {"TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor")}

    def onnx(self, job):
        """The network as a file, exported when first asked for."""
        file = self.scratch / f"{job.arch}-{job.batch_size}.onnx"
        if not file.exists():
            settings = ["--arch", job.arch, "--batch-size", job.batch_size, "--onnx", file]
            run([sys.executable, HERE / "speed_peers.py", "export", *settings], {})
        return file

    def measure(self, job):
        """One answer of a contestant: {pass: {figure: number}}."""
        contestant, arguments = job.contestant, self.arguments
        missing = [package for package in contestant.packages() if self.versions[package] is None]
        if missing:
            raise Unavailable(f"not installed: {', '.join(missing)}")
        settings = ["--arch", job.arch, "--batch-size", job.batch_size]
        settings += ["--precision", contestant.precision, "--threads", arguments.threads]
        variables = contestant.environment(arguments.threads)
        if contestant.peer == "roentgen":
            command = [arguments.roentgen, "bench", "--json", "--unfreeze", "all", "--rounds", arguments.iterations, *settings]
            answer = run(command, variables)
            if contestant.isa and answer["instruction_set"] != contestant.isa:
                raise Unavailable(f"ran on {answer['instruction_set']}")
            # One peak for both passes: that of training.
            peak = {"peak_rss_mb": answer["peak_rss_mb"]}
            return {"train": answer["train_step"] | peak, "forward": answer["forward"] | peak}
        settings += ["--peer", contestant.peer, "--pass", job.what, "--iterations", arguments.iterations]
        if contestant.peer in ("onnxruntime", "openvino"):
            settings += ["--onnx", self.onnx(job)]
        command = [sys.executable, HERE / "speed_peers.py", "measure", *settings]
        return {job.what: run(command, variables | self.cache)}

    def round(self, jobs):
        """Runs each contestant once, but for those that have failed."""
        for job in jobs:
            if job in self.why_not:
                continue
            try:
                answer = self.measure(job)
            except Unavailable as reason:
                self.why_not[job] = str(reason)
                print(f"  {job.title()}: {reason}", file=sys.stderr, flush=True)
                continue
            self.figures.setdefault(job, []).append(answer)
            speeds = ", ".join(f"{figures['images_per_s']:.1f} images/s {what}" for what, figures in answer.items())
            print(f"  {job.title()}: {speeds}", file=sys.stderr, flush=True)

    def of(self, row, contestant):
        """A contestant's figure of a row in each round; empty where it has none."""
        answers = self.figures.get(job_of(row, contestant), [])
        figures = [answer[row.what][row.figure] for answer in answers]
        return [figure for figure in figures if figure is not None]

    def best(self, row, contestants):
        """The contestant with the best median, that median, and its figures by round; None where none has any."""
        known = [(contestant, self.of(row, contestant)) for contestant in contestants]
        known = [(contestant, statistics.median(figures), figures) for contestant, figures in known if figures]
        if not known:
            return None
        return (min if row.less_is_better else max)(known, key=lambda entry: entry[1])


def verdict(row, ratio):
    reached = (lambda bound: ratio <= bound) if row.less_is_better else (lambda bound: ratio >= bound)
    return "aim reached" if reached(row.aim) else "reached" if reached(row.target) else "MISSED"


def table(race, rows):
    """The ratios, as lines of a Markdown table."""
    lines = [
        "| work | ours | best peer | ratio | in single rounds | target | aim | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        unit = "MB" if row.figure == "peak_rss_mb" else "images/s"
        sign = "<=" if row.less_is_better else ">="
        goals = f"{sign} {row.target} | {sign} {row.aim}"
        ours, peer = race.best(row, row.ours), race.best(row, row.peers)
        cell = lambda entry: f"{entry[1]:.1f} {unit} ({entry[0].name})" if entry else "none"
        if ours is None or peer is None:
            lines.append(f"| {row.title} | {cell(ours)} | {cell(peer)} | | | {goals} | not measured |")
            continue
        ratio = ours[1] / peer[1]
        ratios = [ours_figure / peer_figure for ours_figure, peer_figure in zip(ours[2], peer[2])]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        lines.append(f"| {row.title} | {cell(ours)} | {cell(peer)} | {ratio:.2f} | {spread} | {goals} | {verdict(row, ratio)} |")
    return lines


def everyone(race, jobs):
    """All that was measured, and why something was not."""
    lines = ["| contestant | training step, images/s | forward, images/s | peak MB |", "|---|---|---|---|"]
    for job in jobs:
        answers = race.figures.get(job)
        if not answers:
            lines.append(f"| {job.title()} | not measured: {race.why_not.get(job, 'no round was run')} | | |")
            continue
        median = lambda what, figure: statistics.median(a[what][figure] for a in answers)
        speed = lambda what: f"{median(what, 'images_per_s'):.1f}" if what in answers[0] else ""
        what = next(iter(answers[0]))
        peak = f"{median(what, 'peak_rss_mb'):.0f}" if answers[0][what]["peak_rss_mb"] is not None else "unknown"
        lines.append(f"| {job.title()} | {speed('train')} | {speed('forward')} | {peak} |")
        if job in race.why_not:
            lines.append(f"| | failed after {len(answers)} rounds: {race.why_not[job]} | | |")
    return lines


def processor():
    """The processor's name, with the sets that matter here."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return "unknown processor"
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    sets = [name for name in ["avx2", "avx512f", "avx512_bf16", "amx_bf16"] if name in flags]
    return f"{fields.get('model name', 'unknown processor')} ({', '.join(sets)})"


def chosen_rows(text):
    if text == "all":
        return ROWS
    known = {row.key: row for row in ROWS}
    unknown = [key for key in text.split(",") if key not in known]
    if unknown:
        raise SystemExit(f"unknown rows: {', '.join(unknown)}; known: {', '.join(known)}")
    return [known[key] for key in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roentgen", type=pathlib.Path, default=HERE.parent / "target/release/roentgen", help="the binary")
    parser.add_argument("--rows", default="all", help="keys of rows, with commas between; --list shows them")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contestant runs")
    parser.add_argument("--iterations", type=int, default=7, help="timed passes of a contestant in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="list the rows and leave")
    arguments = parser.parse_args()
    arguments.roentgen = arguments.roentgen.resolve()
    rows = chosen_rows(arguments.rows)
    if arguments.list:
        print("\n".join(f"{row.key:26} {row.title}" for row in rows))
        return
    if not arguments.roentgen.is_file():
        raise SystemExit(f"{arguments.roentgen}: no such file: build it with `cargo build --release`, or name it with --roentgen")
    # Rows share measurements: each job once, in the order of the rows.
    jobs = list(dict.fromkeys(job_of(row, contestant) for row in rows for contestant in row.ours + row.peers))
    with tempfile.TemporaryDirectory(prefix="roentgen-speed-") as scratch:
        race = Race(arguments, pathlib.Path(scratch))
        ours = subprocess.run([arguments.roentgen, "--version"], text=True, capture_output=True, check=True).stdout.strip()
        versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in race.versions.items())
        print(f"{ours}; {versions}\n{processor()}, {os.cpu_count()} cores, {arguments.threads} threads", flush=True)
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
            race.round(jobs)
    print("\n" + "\n".join(table(race, rows)) + "\n\n" + "\n".join(everyone(race, jobs)))


if __name__ == "__main__":
    main()
