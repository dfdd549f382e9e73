#!/usr/bin/env python3
"""Writes the fixtures that roentgen's CPU engine is compared with: PyTorch's logits, gradients, losses, statistics.

    python parity_fixtures.py                     writes every case to ../crates/cpu/tests/fixtures/parity
    python parity_fixtures.py --only train_       the cases whose name contains the text
    python parity_fixtures.py --check             writes nothing; fails where a committed number does not come out

The weights and images of every case come from `networks.py`, so a file holds results alone.

The reference is PyTorch in float64, from float32 weights and images. Two float32 programs differ from each other by
the rounding of both, and PyTorch's float32 result depends on the processor and on the number of threads; the float64
result depends on neither, and leaves a test's whole tolerance to the program under test. Users run float32, so each
file also says how far PyTorch's own float32 result is from the reference (`float32_deviation`), in the measure that
the tests use. A tolerance is honest where it is some times larger than that number.

A tensor is stored as a summary: number of elements, L2 norm, sum, largest absolute value, the values at up to 12 flat
row-major indices, and four projections: sums with signs that the generator draws, so that an error anywhere in the
tensor shows, in proportion to its L2 norm.

Some numbers cannot agree closely, whoever computes them: where an activation is within rounding of zero, its ReLU
passes the gradient in one computation and blocks it in another, and in a late layer with few positions one such
decision moves gradients by a per cent. So the images of a gradient case are the first of a series of batches in which
no activation is that close to a decision (`quiet_images`); the fixture names the batch. Ten training steps cannot
all be quiet: what they changed is judged by norms and projections first, which hardly feel a single element.
"""

import argparse
import json
import math
import pathlib
import sys

import numpy as np
import torch
import torchvision
from torch import nn

import networks

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "crates/cpu/tests/fixtures/parity"
ARCHITECTURES = ["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "resnet18", "resnet34"]
STEPS = 10
SAMPLES = 12
PROJECTIONS = 4


def digits(value):
    """Nine significant digits: enough to tell neighbouring float32 values apart."""
    return float(f"{value:.9g}")


def numbers(tensor):
    return [digits(v) for v in tensor.reshape(-1).tolist()]


def projections(name, flat):
    """Sums of the elements with signs: the sign of element i in projection p is bit p of the generator's number i."""
    key, chunk = networks.fnv1a("signs/" + name), 1 << 22
    totals = torch.zeros(PROJECTIONS, dtype=torch.float64)
    for start in range(0, flat.numel(), chunk):
        piece = flat[start : start + chunk]
        counters = np.arange(start, start + piece.numel(), dtype=np.uint64) + np.uint64(key)
        draws = networks.splitmix64(counters)
        for bit in range(PROJECTIONS):
            signs = torch.from_numpy(1.0 - 2.0 * ((draws >> np.uint64(bit)) & np.uint64(1)).astype(np.float64))
            totals[bit] += signs @ piece
    return numbers(totals)


def summary(name, tensor):
    flat = tensor.detach().double().reshape(-1)
    count = flat.numel()
    key = networks.fnv1a("samples/" + name)
    draws = networks.splitmix64(np.arange(SAMPLES, dtype=np.uint64) + np.uint64(key))
    indices = range(count) if count <= SAMPLES else sorted({int(z) % count for z in draws})
    return {
        "elements": count,
        "l2": digits(flat.norm().item()),
        "sum": digits(flat.sum().item()),
        "max_abs": digits(flat.abs().max().item()),
        "projections": projections(name, flat),
        "indices": list(indices),
        "values": numbers(flat[list(indices)]),
    }


def deviations(approximate, exact, group=lambda name: name):
    """Largest differences over dictionaries of tensors: of elements, relative to the largest element of the tensor's
    group, and the L2 norms of differences, relative to the largest norm in the group."""

    def measure(size):
        scale = {}
        for name, tensor in exact.items():
            scale[group(name)] = max(scale.get(group(name), 0.0), size(tensor))
        ratios = (size(approximate[name].double() - t) / (scale[group(name)] or 1.0) for name, t in exact.items())
        return digits(max(ratios, default=0.0))

    return {"elements": measure(lambda t: t.abs().max().item()), "l2": measure(lambda t: t.norm().item())}


def layer(name):
    """The module of a parameter. The parameters of a layer are judged on one scale: the bias of a convolution before a
    batch norm in training mode has the gradient zero, and the rounding error that float32 finds there means something
    only beside the weight's gradient."""
    return name.rpartition(".")[0]


def network(case, dtype):
    net = networks.build(case["arch"], stock=case.get("stock_head", False))
    return networks.fill(net).to(dtype)


def run_logits(case):
    """Logits in evaluation mode of one batch. With 1000 classes: the first 8, and a summary of all."""
    def forward(dtype):
        net = network(case, dtype).eval()
        with torch.inference_mode():
            return net(networks.images("images", case["batch_size"], case["image_size"]).to(dtype))

    exact = forward(torch.float64)
    out = {"float32_deviation": deviations({"": forward(torch.float32)}, {"": exact})}
    if case.get("stock_head"):
        return out | {"first_logits": [numbers(row[:8]) for row in exact], "tensors": {"logits": summary("logits", exact)}}
    return out | {"logits": [numbers(row) for row in exact]}


def rounding(x):
    """Below which a number decides nothing: several times the rounding error of float32 activations like `x`, which
    grows with depth, and depth shows in how few positions a channel has left."""
    share = 1e-6 if x.numel() / x.shape[1] > 1000 else 5e-6
    return share * x.square().mean().sqrt()


def close_decisions(net, image):
    """How many decisions of ReLUs and max pools in a forward pass are within rounding of falling otherwise."""
    counts = []

    def relu_hook(module, inputs):
        (x,) = inputs
        counts.append((x.abs() < rounding(x)).sum().item())

    def pool_hook(module, inputs):
        (x,) = inputs
        windows = nn.functional.unfold(x, module.kernel_size, padding=module.padding, stride=module.stride)
        windows = windows.reshape(x.shape[0], x.shape[1], -1, windows.shape[-1])
        first, second = windows.topk(2, dim=2).values.unbind(2)
        counts.append(((first > 0) & (first - second < rounding(x))).sum().item())

    hooks = {nn.ReLU: relu_hook, nn.MaxPool2d: pool_hook}
    handles = [m.register_forward_pre_hook(hooks[type(m)]) for m in net.modules() if type(m) in hooks]
    with torch.no_grad():
        net(image)
    for handle in handles:
        handle.remove()
    return sum(counts)


def quiet_images(case):
    """The generator's key of the first batch whose forward pass has no close decision."""
    net = network(case, torch.float64)
    networks.freeze(net, case["arch"], case["unfreeze"])
    networks.training_mode(net, case["frozen_batch_norm"])  # the statistics that it updates are not read
    for number in range(1000):
        key = f"images/quiet/{number}"
        if close_decisions(net, networks.images(key, case["batch_size"], case["image_size"]).double()) == 0:
            return key
    raise SystemExit(f"no quiet batch for {case}")


def run_gradients(case):
    """Loss of one batch in training mode and the gradient of every trainable parameter."""
    target = networks.labels(0, case["batch_size"])
    key = quiet_images(case)

    def backward(dtype):
        net = network(case, dtype)
        networks.freeze(net, case["arch"], case["unfreeze"])
        networks.training_mode(net, case["frozen_batch_norm"])
        logits = net(networks.images(key, case["batch_size"], case["image_size"]).to(dtype))
        loss = nn.functional.cross_entropy(logits, target)
        loss.backward()
        return loss.item(), {n: p.grad for n, p in net.named_parameters() if p.requires_grad}

    loss, exact = backward(torch.float64)
    _, approximate = backward(torch.float32)
    return {
        "images": key,
        "labels": target.tolist(),
        "float32_deviation": deviations(approximate, exact, layer),
        "loss": digits(loss),
        "tensors": {name: summary(name, gradient) for name, gradient in exact.items()},
    }


def run_heat_map(case):
    """Evaluation mode, every parameter frozen: the activations at `taps`, and at each of them and at the images the
    gradient of the class-0 logit summed over the batch. This is what Grad-CAM and saliency maps are made of."""

    def backward(dtype):
        net = network(case, dtype).eval().requires_grad_(False)
        for module in net.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False  # or it would overwrite the convolution's output before it is read
        image = networks.images("images", case["batch_size"], case["image_size"]).to(dtype).requires_grad_()
        seen = {"images": image}

        def keep(name):
            def hook(module, inputs, output):
                output.retain_grad()
                seen[name] = output

            return hook

        for name in case["taps"]:
            net.get_submodule(name).register_forward_hook(keep(name))
        net(image)[:, 0].sum().backward()
        values = {f"{name}/activation": seen[name].detach() for name in case["taps"]}
        return values | {f"{name}/gradient": tensor.grad for name, tensor in seen.items()}

    exact, approximate = backward(torch.float64), backward(torch.float32)
    return {
        "float32_deviation": deviations(approximate, exact),
        "tensors": {name: summary(name, tensor) | {"shape": list(tensor.shape)} for name, tensor in exact.items()},
    }


def optimiser(case, parameters):
    settings = dict(case["optimiser"])
    kind = settings.pop("kind")
    return {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[kind](parameters, **settings)


def run_training(case):
    """Ten steps, each on a fresh batch: the losses, how far each trainable parameter moved, and the running statistics
    of the batch norms in training mode. The others, like frozen parameters, must still have the generator's values."""
    batch = case["batch_size"]

    def train(dtype):
        net = network(case, dtype)
        networks.freeze(net, case["arch"], case["unfreeze"])
        networks.training_mode(net, case["frozen_batch_norm"])
        start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        step = optimiser(case, [p for p in net.parameters() if p.requires_grad])
        losses = []
        for number in range(STEPS):
            step.zero_grad()
            logits = net(networks.images(f"images/{number}", batch, case["image_size"]).to(dtype))
            loss = nn.functional.cross_entropy(logits, networks.labels(number * batch, batch))
            loss.backward()
            step.step()
            losses.append(loss.item())
        change = {n: p.detach() - start[n] for n, p in net.named_parameters() if p.requires_grad}
        statistics, tracked = {}, {}
        for name, module in net.named_modules():
            if isinstance(module, nn.BatchNorm2d) and module.training:
                statistics[f"{name}.running_mean"] = module.running_mean
                statistics[f"{name}.running_var"] = module.running_var
                tracked[f"{name}.num_batches_tracked"] = module.num_batches_tracked.item()
        return losses, change, statistics, tracked

    losses, change, statistics, tracked = train(torch.float64)
    losses32, change32, statistics32, _ = train(torch.float32)
    return {
        "labels": [networks.labels(number * batch, batch).tolist() for number in range(STEPS)],
        "float32_deviation": {
            "losses": digits(max(abs(a - b) / max(abs(b), 0.01) for a, b in zip(losses32, losses))),
            "change": deviations(change32, change, layer),
            "statistics": deviations(statistics32, statistics),
        },
        "losses": [digits(loss) for loss in losses],
        "num_batches_tracked": tracked,
        "change": {name: summary(name, tensor) for name, tensor in change.items()},
        "statistics": {name: summary(name, tensor) for name, tensor in statistics.items()},
    }


def run_cross_entropy(case):
    """Mean loss and logit gradients; with class weights the mean is weighted, as torch.nn.CrossEntropyLoss has it."""
    examples = []
    for logits, target, weights in case["inputs"]:
        def backward(dtype):
            z = torch.tensor(logits, dtype=dtype, requires_grad=True)
            w = torch.tensor(weights, dtype=dtype) if weights else None
            loss = nn.functional.cross_entropy(z, torch.tensor(target), weight=w)
            loss.backward()
            return loss.item(), z.grad

        loss, gradient = backward(torch.float64)
        loss32, _ = backward(torch.float32)
        examples.append({
            "logits": logits, "labels": target, "class_weights": weights, "loss": digits(loss),
            "gradient": [numbers(row) for row in gradient], "float32_loss_deviation": digits(abs(loss32 - loss)),
        })
    return {"examples": examples}


CROSS_ENTROPY_INPUTS = [
    ([[0.5, -1.25], [2.0, 0.75], [-0.5, 0.25]], [0, 1, 1], None),
    ([[0.5, -1.25], [2.0, 0.75], [-0.5, 0.25]], [0, 1, 1], [0.25, 1.5]),
    ([[100.0, -100.0], [100.0, -100.0], [-100.0, 100.0]], [0, 1, 1], None),
    ([[100.0, -100.0], [100.0, -100.0], [-100.0, 100.0]], [0, 1, 0], [0.75, 3.0]),
    ([[1.0, 2.0, 3.0], [-100.0, 0.0, 100.0], [0.0, 0.0, 0.0], [100.0, 100.0, 100.0]], [2, 0, 1, 1], [0.5, 1.0, 2.0]),
    ([[-4.5, 0.125, 3.0, 1.0, -0.25]], [4], [1.0, 2.0, 3.0, 4.0, 5.0]),
]


def cases():
    """Every case by its file's name. VGG's cases mostly have 32 px, because its convolutions cost eight times more."""
    out = {}

    def logits(arch, size, batch_size, stock=False):
        name = f"logits_{arch}_{size}" + ("_stock" if stock else "")
        case = {"kind": "logits", "arch": arch, "image_size": size, "batch_size": batch_size}
        out[name] = case | ({"stock_head": True} if stock else {})

    for arch in ARCHITECTURES:
        logits(arch, 64, 2)
    for arch in ["resnet18", "vgg16"]:
        logits(arch, 32, 2), logits(arch, 96, 2), logits(arch, 224, 1), logits(arch, 64, 1, stock=True)

    def gradients(arch, size, unfreeze, frozen="eval", name=None):
        out[f"gradients_{arch}_{name or unfreeze}"] = {
            "kind": "gradients", "arch": arch, "image_size": size, "batch_size": 4,
            "unfreeze": unfreeze, "frozen_batch_norm": frozen,
        }

    for arch in ARCHITECTURES:
        gradients(arch, 64 if arch.startswith("resnet") else 32, "all")
    gradients("resnet18", 64, "layer4,head", "eval", "layer4_frozen_eval")
    gradients("resnet18", 64, "layer4,head", "train", "layer4_frozen_train")
    gradients("vgg16", 32, "features.10,head", name="features10")

    def heat_map(arch, size, taps):
        out[f"heat_map_{arch}"] = {"kind": "heat_map", "arch": arch, "image_size": size, "batch_size": 2, "taps": taps}

    heat_map("resnet18", 64, ["layer3", "layer4"])
    heat_map("vgg11", 64, ["features.18", "features"])

    def sgd(lr, **settings):
        return {"kind": "sgd", "lr": lr, "momentum": 0.9} | settings

    def train(name, arch, size, unfreeze, optimiser_settings, frozen="eval"):
        out[f"train_{arch}_{name}"] = {
            "kind": "train", "arch": arch, "image_size": size, "batch_size": 8,
            "unfreeze": unfreeze, "frozen_batch_norm": frozen, "optimiser": optimiser_settings,
        }

    # Learning rates by how far rounding grows in ten steps (float32_deviation): at 0.01, everything trained, two correct
    # float32 programs part beyond the tolerance, and a VGG head's loss of noise images jumps to the hundreds.
    train("head", "resnet18", 64, "head", sgd(0.001))
    train("layer4", "resnet18", 64, "layer4,head", sgd(0.01))
    train("layer4_frozen_train", "resnet18", 64, "layer4,head", sgd(0.01), "train")
    train("all", "resnet18", 64, "all", sgd(0.0005))
    train("all_decay_nesterov", "resnet18", 64, "all", sgd(0.0005, weight_decay=0.01, nesterov=True))
    adamw = {"kind": "adamw", "lr": 0.0001, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.5}
    train("features10_adamw", "vgg16", 32, "features.10,head", adamw)
    train("head", "vgg16", 32, "head", sgd(0.001))
    train("features10", "vgg16", 32, "features.10,head", sgd(0.001))
    eight = ",".join(f"features.{i}" for i in (0, 5, 10, 12, 19, 21, 26, 28))
    train("eight_convolutions", "vgg16", 32, eight + ",head", sgd(0.001))
    train("all", "vgg16", 32, "all", sgd(0.001))
    train("head", "vgg11_bn", 32, "head", sgd(0.0001))
    train("head_frozen_train", "vgg11_bn", 32, "head", sgd(0.001), "train")
    train("features11_12", "vgg11_bn", 32, "features.11,features.12,head", sgd(0.001))
    train("all", "vgg11_bn", 32, "all", sgd(0.001))
    out["cross_entropy"] = {"kind": "cross_entropy", "inputs": CROSS_ENTROPY_INPUTS}
    return out


RUNNERS = {
    "logits": run_logits, "gradients": run_gradients, "heat_map": run_heat_map, "train": run_training,
    "cross_entropy": run_cross_entropy,
}


def text(value):
    """JSON with a line for each key, and within dictionaries of dictionaries a line for each tensor."""
    def nested(inner):
        if isinstance(inner, dict) and any(isinstance(v, dict) for v in inner.values()):
            return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in inner.items()) + "\n }"
        return json.dumps(inner)

    return "{\n" + ",\n".join(f" {json.dumps(k)}: {nested(v)}" for k, v in value.items()) + "\n}\n"


def differences(found, stored, path=""):
    """Where two results differ by more than the last digits that float64 and another processor leave open."""
    if path.startswith((".float32", ".versions")) or "float32_loss_deviation" in path:
        return []
    if isinstance(stored, dict) and isinstance(found, dict) and stored.keys() == found.keys():
        return [d for key in stored for d in differences(found[key], stored[key], f"{path}.{key}")]
    if isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        return [d for i, (a, b) in enumerate(zip(found, stored)) for d in differences(a, b, f"{path}[{i}]")]
    same = found == stored
    if isinstance(stored, float) and isinstance(found, float):
        same = math.isclose(found, stored, rel_tol=1e-5, abs_tol=1e-9)
    return [] if same else [f"{path}: {found} here, {stored} stored"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=FIXTURES)
    parser.add_argument("--only", default="", help="cases whose name contains this text")
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    versions = {"torch": torch.__version__.split("+")[0], "torchvision": torchvision.__version__.split("+")[0]}
    failures = 0
    for name, case in cases().items():
        if arguments.only not in name:
            continue
        described = {key: value for key, value in case.items() if key != "inputs"}
        result = {"written_by": "reference/parity_fixtures.py", "versions": versions, **described, **RUNNERS[case["kind"]](case)}
        path = arguments.out / f"{name}.json"
        wrong = differences(result, json.loads(path.read_text())) if arguments.check else []
        failures += bool(wrong)
        if not arguments.check:
            path.write_text(text(result))
        note = result.get("losses") or result.get("logits") or result.get("loss", "")
        print(name, "float32 deviation", result.get("float32_deviation", ""), note, flush=True)
        for line in wrong[:5]:
            print(f"  {path.name}{line}", file=sys.stderr)
    sys.exit(f"{failures} fixtures do not come out as stored" if failures else 0)


if __name__ == "__main__":
    main()
