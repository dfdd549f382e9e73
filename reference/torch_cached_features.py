#!/usr/bin/env python3
"""What a PyTorch user would write to train a head fast: the frozen network's features once, then epochs over them.

    python torch_cached_features.py --torch-script TORCH.py --data DIR --epochs 10 --precision bf16

Without augmentation the features of an image never change. They are computed once for all three splits, kept in memory,
and the head of the assignment is trained on them. `--torch-script` is the recipe, whose functions `build`, `loader` and
`head_prefix` are used. The last line is a JSON object with the accuracies and the seconds in all.
"""

import argparse
import importlib.util
import json
import time


def recipe(path):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("recipe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-script", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    torch_recipe = recipe(arguments.torch_script)
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    net = torch_recipe.build(arguments.arch, 2).to(memory_format=torch.channels_last).eval()
    name = torch_recipe.head_prefix(arguments.arch).rstrip(".")
    head = getattr(net, name)
    setattr(net, name, torch.nn.Identity())

    def features(split):
        _, batches = torch_recipe.loader(arguments.data, split, "none", arguments.batch_size, False, arguments.workers)
        found, labels = [], []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            for images, label in batches:
                found.append(net(images.contiguous(memory_format=torch.channels_last)).float())
                labels.append(label)
        return torch.cat(found).clone(), torch.cat(labels)

    train, validation, test = features("train"), features("validation"), features("test")
    optimizer = torch.optim.SGD(head.parameters(), lr=arguments.lr, momentum=0.9)
    criterion = torch.nn.CrossEntropyLoss()

    def accuracy(split):
        head.eval()
        with torch.inference_mode():
            return (head(split[0]).argmax(1) == split[1]).float().mean().item()

    for _ in range(arguments.epochs):
        head.train()
        for rows in torch.randperm(len(train[1])).split(arguments.batch_size):
            optimizer.zero_grad(set_to_none=True)
            criterion(head(train[0][rows]), train[1][rows]).backward()
            optimizer.step()
        validation_accuracy = accuracy(validation)
    seconds = round(time.perf_counter() - begun, 2)
    print(json.dumps({"validation_accuracy": validation_accuracy, "test_accuracy": accuracy(test), "seconds": seconds}))


if __name__ == "__main__":
    main()
