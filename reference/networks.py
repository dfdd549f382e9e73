"""torchvision's networks with roentgen's head, filled from one generator that roentgen implements too.

Fixtures need no stored weights because both sides compute them:

    key   = FNV-1a (64 bit) of the tensor's state-dict name, e.g. "layer1.0.conv1.weight"
    z(i)  = splitmix64(key + i), i the row-major index of the element, sums modulo 2^64
    u(i)  = (z(i) >> 40) / 2^24, in [0, 1)

    convolution weight          (2u - 1) sqrt(6 / fan_in)     fan_in = in channels x kernel height x kernel width
    linear weight               (2u - 1) sqrt(3 / fan_in)
    convolution, linear bias    (2u - 1) 0.05
    batch norm weight           0.75 + 0.5 u; half of that where it is the last of a residual branch (layerL.B.bn2):
                                without it each block doubles the variance in evaluation mode, and ResNet-34's
                                logits reach the hundreds
    batch norm bias             (2u - 1) 0.1
    running_mean, running_var   (2u - 1) 0.1, 0.75 + 0.5 u
    num_batches_tracked         0
    images                      4 u - 2

Every value is computed in float64, in the order written, and rounded to float32 once.
"""

import math

import numpy as np
import torch
from torch import nn
from torchvision import models

HEAD_HIDDEN = 380
MASK = (1 << 64) - 1


def fnv1a(text):
    """The 64-bit FNV-1a hash of a UTF-8 string."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def splitmix64(x):
    """The output function of SplitMix64 (Steele, Lea, Flood 2014) over an array of uint64."""
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(name, shape, transform):
    """A float32 tensor of `shape`: `transform` of the uniform numbers that belong to `name`."""
    count = math.prod(shape)
    out = np.empty(count, dtype=np.float32)
    key, chunk = fnv1a(name), 1 << 22  # in pieces: VGG's stock head alone has 103 million elements
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        counters = np.arange(start, stop, dtype=np.uint64) + np.uint64(key)
        u = (splitmix64(counters) >> np.uint64(40)).astype(np.float64) / float(1 << 24)
        out[start:stop] = transform(u)
    return torch.from_numpy(out.reshape(shape))


def images(key, batch_size, size):
    """A float32 batch [N, 3, S, S] with values in [-2, 2)."""
    return uniform(key, (batch_size, 3, size, size), lambda u: 4.0 * u - 2.0)


def labels(first, batch_size):
    """Labels of two classes, [N]: image number i (counted over all steps) has class (7 i mod 11) mod 2."""
    return torch.tensor([(i * 7 % 11) % 2 for i in range(first, first + batch_size)])


def head_name(arch):
    """The module that roentgen replaces: `classifier` for VGG, `fc` for ResNet."""
    return "classifier" if arch.startswith("vgg") else "fc"


def build(arch, classes=2, hidden=HEAD_HIDDEN, dropout=0.0, stock=False):
    """The torchvision network, with roentgen's head unless `stock`; weights as torchvision leaves them."""
    net = getattr(models, arch)(weights=None)
    if stock:
        return net
    features = 512 * 7 * 7 if arch.startswith("vgg") else net.fc.in_features
    head = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(hidden, classes))
    setattr(net, head_name(arch), head)
    return net


def fill(net):
    """Overwrites every parameter and buffer of `net` with the generator's values."""
    state = {}
    for module_name, module in net.named_modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            full = f"{module_name}.{name}"
            state[full] = generated(full, module, name, tensor)
    net.load_state_dict(state, strict=True)
    return net


def generated(full, module, name, tensor):
    """The generator's value of one tensor of the state dict."""
    if name == "num_batches_tracked":
        return torch.zeros_like(tensor)
    if isinstance(module, nn.BatchNorm2d):
        if name in ("weight", "running_var"):
            last_of_branch = full.startswith("layer") and full.endswith(".bn2.weight")
            scale = 0.5 if last_of_branch else 1.0
            return uniform(full, tensor.shape, lambda u: scale * (0.75 + 0.5 * u))
        return uniform(full, tensor.shape, lambda u: (2.0 * u - 1.0) * 0.1)
    if name == "bias":
        return uniform(full, tensor.shape, lambda u: (2.0 * u - 1.0) * 0.05)
    fan_in = math.prod(tensor.shape[1:])
    bound = math.sqrt((6.0 if isinstance(module, nn.Conv2d) else 3.0) / fan_in)
    return uniform(full, tensor.shape, lambda u: (2.0 * u - 1.0) * bound)


def freeze(net, arch, unfreeze):
    """Applies a freeze plan: `all`, `head`, or a comma list of module names with `head` among them.

    A parameter is trainable where a listed name is its module or a module around it. Returns the trainable names.
    """
    names = [head_name(arch) if name == "head" else name for name in unfreeze.split(",")]
    for name, parameter in net.named_parameters():
        selected = any(name.startswith(chosen + ".") for chosen in names)
        parameter.requires_grad = unfreeze == "all" or selected
    return [name for name, parameter in net.named_parameters() if parameter.requires_grad]


def training_mode(net, frozen_batch_norm):
    """Training mode; with `eval`, batch norms without trainable parameters normalise by and keep their statistics."""
    net.train()
    for module in net.modules():
        if frozen_batch_norm == "eval" and isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()
