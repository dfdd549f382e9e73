#!/usr/bin/env python3
"""Measures one peer of roentgen on random data, and prints one JSON object. `speed.py` calls this, a fresh process a measurement.

    python speed_peers.py versions
    python speed_peers.py export  --arch resnet18 --batch-size 16 --onnx FILE
    python speed_peers.py measure --peer torch --arch resnet18 --batch-size 16 --pass train --precision bf16 --threads 2

The networks are torchvision's with roentgen's head, the images 224 x 224, the step SGD with momentum: what `roentgen bench` does.
"""

import argparse
import importlib.metadata
import json
import pathlib
import platform
import re
import statistics
import time

IMAGE_SIZE = 224
DROPOUT = 0.5
PACKAGES = ["torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "openvino"]


def installed(package):
    """The version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def peak_mb():
    """The most memory that this process has held, in 10^6 bytes; None where the system does not say."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE).group(1)) * 1024 / 1e6


def seconds(run, iterations):
    """The time of each of some calls, after one that is not counted: it compiles, and touches memory for the first time."""
    run()
    times = []
    for _ in range(iterations):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return times


def torch_step(arguments, network, images):
    """One training step, or one forward pass."""
    import torch

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16")
    if arguments.what == "train":
        labels = torch.arange(arguments.batch_size) % 2
        network.train()
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

        def step():
            optimizer.zero_grad(set_to_none=True)
            with autocast:
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()

        return step
    network.eval()
    if arguments.peer == "torch-compile":
        import torch._inductor.config

        # Weights become constants, which is what a peer that only classifies may do.
        torch._inductor.config.freezing = True
        network = torch.compile(network)

    def forward():
        with torch.no_grad(), autocast:
            network(images)

    return forward


def measure_torch(arguments):
    import torch

    from networks import build

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    network = build(arguments.arch, dropout=DROPOUT).to(memory_format=torch.channels_last)
    images = torch.randn(arguments.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE).contiguous(memory_format=torch.channels_last)
    return seconds(torch_step(arguments, network, images), arguments.iterations)


def random_images(arguments):
    import numpy as np

    shape = (arguments.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def measure_onnxruntime(arguments):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(arguments.onnx), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: random_images(arguments)}
    return seconds(lambda: session.run(None, feed), arguments.iterations)


def measure_openvino(arguments):
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": arguments.threads,
        "INFERENCE_PRECISION_HINT": arguments.precision,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    compiled = openvino.Core().compile_model(str(arguments.onnx), "CPU", settings)
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if used != arguments.precision:
        raise SystemExit(f"OpenVINO computes in {used} on this processor, not in {arguments.precision}")
    request, images = compiled.create_infer_request(), random_images(arguments)
    return seconds(lambda: request.infer({0: images}, share_inputs=True), arguments.iterations)


MEASURE = {
    "torch": measure_torch,
    "torch-compile": measure_torch,
    "onnxruntime": measure_onnxruntime,
    "openvino": measure_openvino,
}


def export(arguments):
    """Writes a network as ONNX for one batch size, in evaluation mode."""
    import torch

    from networks import build

    torch.manual_seed(0)
    network = build(arguments.arch, dropout=DROPOUT).eval()
    images = torch.randn(arguments.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE)
    torch.onnx.export(network, (images,), arguments.onnx, dynamo=True, verbose=False)
    return {"onnx": str(arguments.onnx)}


def measure(arguments):
    times = MEASURE[arguments.peer](arguments)
    return {
        "images_per_s": arguments.batch_size / statistics.median(times),
        "best_images_per_s": arguments.batch_size / min(times),
        "peak_rss_mb": peak_mb(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("versions")
    for name in ["export", "measure"]:
        command = commands.add_parser(name)
        command.add_argument("--arch", required=True)
        command.add_argument("--batch-size", type=int, required=True)
        command.add_argument("--onnx", type=pathlib.Path, help="the network as a file")
    command.add_argument("--peer", choices=MEASURE, required=True)
    command.add_argument("--pass", dest="what", choices=["train", "forward"], required=True)
    command.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    command.add_argument("--threads", type=int, required=True)
    command.add_argument("--iterations", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.command == "versions":
        answer = {"python": platform.python_version()} | {package: installed(package) for package in PACKAGES}
    elif arguments.command == "export":
        answer = export(arguments)
    else:
        answer = measure(arguments)
    # Last, and on a line of its own: libraries print as they like.
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
