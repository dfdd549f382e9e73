#!/usr/bin/env python3
"""Writes the heat maps that roentgen's are compared with: those of pytorch-grad-cam, and Captum's for the methods that
look at the image alone.

    python explain_fixtures.py             writes ../crates/infer/tests/fixtures/explain/*.json
    python explain_fixtures.py --check     writes nothing; fails where a committed number does not come out

Weights and images come from `networks.py`; everything runs in float64. A class activation map is stored raw, before the
ReLU and the scaling to [0, 1] that pytorch-grad-cam ends with: an all-negative map would compare nothing.
"""

import argparse
import json
import math
import pathlib
import sys
from importlib.metadata import version

import captum.attr
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import networks

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "crates/infer/tests/fixtures/explain"
CLASS_ACTIVATION = {
    "grad-cam": pytorch_grad_cam.GradCAM,
    "grad-cam++": pytorch_grad_cam.GradCAMPlusPlus,
    "hires-cam": pytorch_grad_cam.HiResCAM,
}
# In ResNet-18 the last map, one further up, and a convolution inside a block, behind which a batch norm follows.
CASES = {
    "class_activation_resnet18": {"arch": "resnet18", "image_size": 96, "modules": ["layer4", "layer2", "layer3.0.conv1"]},
    "class_activation_vgg11": {"arch": "vgg11", "image_size": 96, "modules": ["features", "features.10"]},
    "image_resnet18": {"arch": "resnet18", "image_size": 32, "steps": 8, "patch": 8, "stride": 4},
}


def numbers(tensor):
    """Nine significant digits: enough to tell neighbouring float32 values apart."""
    return [float(f"{value:.9g}") for value in tensor.reshape(-1).tolist()]


def class_activation(net, image, modules):
    """Raw maps by method, module and class."""
    maps = []
    for method, kind in CLASS_ACTIVATION.items():
        for module in modules:
            layer = net.get_submodule(module)
            for class_ in (0, 1):
                targets = [ClassifierOutputTarget(class_)]
                with kind(model=net, target_layers=[layer]) as cam:
                    cam(input_tensor=image, targets=targets)
                    activation = cam.activations_and_grads.activations[-1].cpu().numpy()
                    gradient = cam.activations_and_grads.gradients[-1].cpu().numpy()
                    raw = cam.get_cam_image(image, layer, targets, activation, gradient, False)
                maps.append({
                    "method": method, "module": module, "class": class_,
                    "height": raw.shape[1], "width": raw.shape[2], "values": numbers(torch.from_numpy(raw)),
                })
    return {"maps": maps}


def image_methods(net, image, steps, patch, stride):
    """Integrated gradients and occlusion of class 1, both summed over the three channels or covering them."""
    gradients = captum.attr.IntegratedGradients(net).attribute(image, target=1, n_steps=steps, method="riemann_middle")
    occlusion = captum.attr.Occlusion(net).attribute(
        image, target=1, sliding_window_shapes=(3, patch, patch), strides=(3, stride, stride)
    )
    # Captum gives each channel the loss of the square that covers all three.
    return {"integrated_gradients": numbers(gradients.sum(1)), "occlusion": numbers(occlusion[:, 0])}


def result(case):
    net = networks.fill(networks.build(case["arch"])).double().eval()
    image = networks.images("explained", 1, case["image_size"]).double()
    if "modules" in case:
        return class_activation(net, image, case["modules"])
    return image_methods(net, image, case["steps"], case["patch"], case["stride"])


def text(value):
    """JSON with a line for each key and each map."""
    def lines(inner):
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in inner) + "\n ]"
        return json.dumps(inner)

    return "{\n" + ",\n".join(f" {json.dumps(key)}: {lines(inner)}" for key, inner in value.items()) + "\n}\n"


def same(found, stored):
    if isinstance(stored, dict):
        return isinstance(found, dict) and found.keys() == stored.keys() and all(same(found[k], stored[k]) for k in stored)
    if isinstance(stored, list):
        return len(found) == len(stored) and all(map(same, found, stored))
    if isinstance(stored, float):
        return math.isclose(found, stored, rel_tol=1e-5, abs_tol=1e-9)
    return found == stored


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    arguments = parser.parse_args()
    FIXTURES.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name).split("+")[0] for name in ("torch", "torchvision", "grad-cam", "captum")}
    wrong = []
    for name, case in CASES.items():
        path = FIXTURES / f"{name}.json"
        found = {"written_by": "reference/explain_fixtures.py", "versions": versions, **case, **result(case)}
        if not arguments.check:
            path.write_text(text(found))
        elif not same(found | {"versions": None}, json.loads(path.read_text()) | {"versions": None}):
            wrong.append(name)
        print(name, flush=True)
    sys.exit(f"{', '.join(wrong)} do not come out as stored" if wrong else 0)


if __name__ == "__main__":
    main()
