"""Writes crates/train/tests/fixtures/schedules.json: the rates and momenta that PyTorch's schedulers give, step by step.

    pip install torch==2.15.0
    python reference/schedule_fixtures.py

Each case names roentgen's settings, and holds the learning rate that each optimizer step is taken with, and the momentum
where the schedule moves it. A parameter without gradient is enough: schedulers look at the optimizer alone.
"""

import json
import math
import warnings
from pathlib import Path

import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR, StepLR

OUTPUT = Path(__file__).parent.parent / "crates/train/tests/fixtures/schedules.json"
BASE = 0.01
# The closing step of SequentialLR calls step() with an epoch, which torch itself has deprecated.
warnings.filterwarnings("ignore", category=UserWarning)


def optimizer(kind=SGD):
    parameter = torch.nn.Parameter(torch.zeros(1))
    return SGD([parameter], lr=BASE, momentum=0.9) if kind is SGD else AdamW([parameter], lr=BASE)


def trace(opt, scheduler, steps, steps_in_epoch=None):
    """The rate before each step; a scheduler with `steps_in_epoch` is stepped once an epoch."""
    rates, momenta = [], []
    for step in range(steps):
        group = opt.param_groups[0]
        rates.append(group["lr"])
        momenta.append(group["betas"][0] if "betas" in group else group["momentum"])
        opt.step()
        if steps_in_epoch is None or (step + 1) % steps_in_epoch == 0:
            if step + 1 < steps:
                scheduler.step()
    return rates, momenta


def warm(opt, steps):
    return LinearLR(opt, start_factor=1 / steps, end_factor=1.0, total_iters=max(steps - 1, 1))


cases = []


def case(schedule, epochs, steps_in_epoch, rates, momenta=None, warmup_epochs=0.0):
    cases.append(
        {
            "schedule": schedule,
            "warmup_epochs": warmup_epochs,
            "epochs": epochs,
            "steps_in_epoch": steps_in_epoch,
            "rates": rates,
            "momenta": momenta,
        }
    )


for epochs, in_epoch, every, factor in [(6, 3, 2, 0.1), (5, 4, 1, 0.5), (3, 2, 7, 0.1)]:
    opt = optimizer()
    rates, _ = trace(opt, StepLR(opt, every, factor), epochs * in_epoch, in_epoch)
    case({"kind": "step", "every_epochs": every, "factor": factor}, epochs, in_epoch, rates)

for epochs, in_epoch, low in [(10, 3, 0.0), (4, 5, 0.0005), (1, 1, 0.0)]:
    opt = optimizer()
    rates, _ = trace(opt, CosineAnnealingLR(opt, epochs * in_epoch, low), epochs * in_epoch)
    case({"kind": "cosine", "minimal_rate": low}, epochs, in_epoch, rates)

# A warm-up alone, before a cosine, and under steps, which are counted from the start of the run.
opt = optimizer()
rates, _ = trace(opt, warm(opt, 8), 20)
case({"kind": "constant"}, 5, 4, rates, warmup_epochs=2.0)
opt = optimizer()
parts = [warm(opt, 6), CosineAnnealingLR(opt, 20 - 6, 0.001)]
rates, _ = trace(opt, SequentialLR(opt, parts, milestones=[6]), 20)
case({"kind": "cosine", "minimal_rate": 0.001}, 5, 4, rates, warmup_epochs=1.5)
opt = optimizer()
rates, _ = trace(opt, ChainedScheduler([warm(opt, 6), StepLR(opt, 2 * 4, 0.3)]), 20)
case({"kind": "step", "every_epochs": 2, "factor": 0.3}, 5, 4, rates, warmup_epochs=1.5)

for kind, steps, settings in [
    (SGD, 40, {}),
    (AdamW, 30, {}),
    (SGD, 7, {"pct_start": 0.4, "div_factor": 10.0, "final_div_factor": 100.0}),
    (SGD, 25, {"pct_start": 0.25, "base_momentum": 0.5, "max_momentum": 0.75}),
]:
    opt = optimizer(kind)
    scheduler = OneCycleLR(opt, BASE, total_steps=steps, **settings)
    rates, momenta = trace(opt, scheduler, steps)
    case({"kind": "one-cycle", **settings}, steps, 1, rates, momenta)

assert all(math.isfinite(rate) for case in cases for rate in case["rates"])
OUTPUT.parent.mkdir(exist_ok=True)
OUTPUT.write_text(json.dumps({"torch": torch.__version__, "learning_rate": BASE, "cases": cases}, indent=1) + "\n")
print(f"{len(cases)} cases by torch {torch.__version__}: {OUTPUT}")
