"""Writes crates/nn/tests/fixtures/clipped_gradients.json: gradients before and after torch.nn.utils.clip_grad_norm_.

    pip install torch==2.15.0
    python reference/clip_fixtures.py

In float64, from values that float32 holds. The shapes are those of the last layer of a head of 3 hidden units and 2 classes.
"""

import json
from pathlib import Path

import torch

OUTPUT = Path(__file__).parent.parent / "crates/nn/tests/fixtures/clipped_gradients.json"

cases = []
generator = torch.Generator().manual_seed(5)
for scale in [0.01, 1.0, 1000.0]:
    for largest in [0.25, 1.0, 5.0]:
        weight = torch.nn.Parameter(torch.zeros(2, 3, dtype=torch.float64))
        bias = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        weight.grad = (torch.randn(2, 3, generator=generator) * scale).double()
        bias.grad = (torch.randn(2, generator=generator) * scale).double()
        before = weight.grad.flatten().tolist() + bias.grad.tolist()
        norm = torch.nn.utils.clip_grad_norm_([weight, bias], largest).item()
        after = weight.grad.flatten().tolist() + bias.grad.tolist()
        cases.append({"largest": largest, "before": before, "norm": norm, "after": after})

OUTPUT.write_text(json.dumps({"torch": torch.__version__, "cases": cases}, indent=1) + "\n")
print(f"{len(cases)} cases by torch {torch.__version__}: {OUTPUT}")
