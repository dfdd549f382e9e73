"""Cosines between the gradients of f32 and of bf16 autocast in PyTorch, layer by layer.

    python mixed_precision_gradients.py [seed]

A randomly started ResNet-18 on eight 112 px images of two kinds of waves with noise: what crates/cpu/tests/mixed_precision.rs
trains, but for the random numbers of the start. The thresholds of that test stand beside these figures.
"""

import sys

import torch
import torchvision
from torch.nn.functional import cosine_similarity, cross_entropy

BATCH, SIZE = 8, 112


def images() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(BATCH) % 2
    at = torch.arange(3 * SIZE * SIZE)
    wave = torch.stack([torch.sin((at % SIZE) * length) for length in (0.2, 0.35)])
    noise = torch.stack([((at * 7919 + image * 104_729) % 1013) / 1013 - 0.5 for image in range(BATCH)])
    return (wave[labels] + noise).view(BATCH, 3, SIZE, SIZE), labels


def gradients(model: torch.nn.Module, autocast: bool) -> dict[str, torch.Tensor]:
    x, labels = images()
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = model(x)
    cross_entropy(logits.float(), labels).backward()
    return {name: parameter.grad.flatten().clone() for name, parameter in model.named_parameters()}


def main() -> None:
    torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    model = torchvision.models.resnet18(weights=None)
    model.fc = torch.nn.Sequential(torch.nn.Linear(512, 20), torch.nn.ReLU(), torch.nn.Linear(20, 2))
    model.train()
    expected, found = gradients(model, False), gradients(model, True)
    for name, gradient in expected.items():
        print(f"{name:32} {cosine_similarity(gradient, found[name], dim=0).item():.3f}")


if __name__ == "__main__":
    main()
