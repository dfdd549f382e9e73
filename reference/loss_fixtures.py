"""Writes crates/nn/tests/fixtures/losses.json: losses and their gradients for the logits, by PyTorch in float64.

    pip install torch==2.15.0
    python reference/loss_fixtures.py

Label smoothing is torch.nn.CrossEntropyLoss. PyTorch has no focal loss over softmax: it is written here with PyTorch's
log_softmax, and autograd gives the gradient. Both are divided by the sum of the weights of the labels.
"""

import json
from pathlib import Path

import torch
from torch.nn import functional

OUTPUT = Path(__file__).parent.parent / "crates/nn/tests/fixtures/losses.json"


def focal(logits, labels, weight, gamma):
    log_p = functional.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
    alpha = weight[labels]
    # 1 - p is what the other classes have: exact also where p rounds to 1.
    others = functional.one_hot(labels, logits.shape[1]) == 0
    rest = (functional.softmax(logits, 1) * others).sum(1)
    return (-alpha * rest**gamma * log_p).sum() / alpha.sum()


def smoothed(logits, labels, weight, share):
    return functional.cross_entropy(logits, labels, weight=weight, label_smoothing=share)


cases = []
generator = torch.Generator().manual_seed(11)
for kind, parameters in [("label-smoothing", [0.05, 0.1, 0.5]), ("focal", [0.5, 1.0, 2.0, 5.0])]:
    for parameter in parameters:
        # As float32 has it, which is what the program under test computes with.
        parameter = torch.tensor(parameter, dtype=torch.float32).item()
        for classes, weights, scale in [(2, None, 2.0), (3, [2.0, 0.5, 1.0], 2.0), (4, [1.0, 3.0, 0.25, 1.0], 15.0)]:
            logits = (torch.randn(6, classes, generator=generator) * scale).double().requires_grad_()
            labels = torch.randint(classes, (6,), generator=generator)
            weight = torch.tensor(weights or [1.0] * classes, dtype=torch.float64)
            loss = (focal if kind == "focal" else smoothed)(logits, labels, weight, parameter)
            loss.backward()
            cases.append(
                {
                    "kind": kind,
                    "parameter": parameter,
                    "class_weights": weights,
                    "labels": labels.tolist(),
                    "logits": logits.detach().flatten().tolist(),
                    "loss": loss.item(),
                    "gradient": logits.grad.flatten().tolist(),
                }
            )

OUTPUT.write_text(json.dumps({"torch": torch.__version__, "cases": cases}, indent=1) + "\n")
print(f"{len(cases)} cases by torch {torch.__version__}: {OUTPUT}")
