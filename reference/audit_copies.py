"""Plants altered copies of radiographs in a data set, and counts which of them `roentgen audit --json` found.

    python audit_copies.py plant ../shared/data/cxr /tmp/planted [--each 200] [--seed 0]
    roentgen audit --data /tmp/planted --json > audit.json
    python audit_copies.py count /tmp/planted audit.json

A copy goes into another split than its original, so that each is a leak. Originals keep their `manifest.csv`; of copies
it says nothing. `planted.csv` beside it holds the truth. Written with Pillow 13.0.
"""

import argparse
import csv
import json
import random
import shutil
from collections import Counter
from pathlib import Path

from PIL import Image, ImageOps

OTHER_SPLIT = {"train": "test", "validation": "train", "test": "train"}


def rotated(degrees):
    return lambda image, _: image.rotate(degrees, resample=Image.BICUBIC)


def cropped(kept):
    def crop(image, random):
        width, height = (round(side * kept) for side in image.size)
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        return image.crop((left, top, left + width, top + height))

    return crop


def gamma(exponent):
    return lambda image, _: image.point([round(255 * (level / 255) ** exponent) for level in range(256)])


def unchanged(image, _):
    return image


def shrunk(image, _):
    scale = 256 / min(image.size)
    return image.resize([round(side * scale) for side in image.size], Image.BICUBIC)


def much_at_once(image, random):
    image = cropped(0.95)(ImageOps.mirror(image).rotate(random.choice([-4, 4]), resample=Image.BICUBIC), random)
    return gamma(0.8)(image, random)


# What each kind does, and the file that it is kept in. Lossless, so that each kind is tried for itself.
KINDS = {
    "rotation-5": (rotated(5), "png", {}),
    "crop-10": (cropped(0.9), "png", {}),
    "mirror": (lambda image, _: ImageOps.mirror(image), "png", {}),
    "gamma-0.7": (gamma(0.7), "png", {}),
    "gamma-1.4": (gamma(1.4), "png", {}),
    "jpeg-50": (unchanged, "jpg", {"quality": 50}),
    "downscale-256": (shrunk, "png", {}),
    "inversion": (lambda image, _: ImageOps.invert(image), "png", {}),
    # Beyond what is promised.
    "rotation-10": (rotated(-10), "png", {}),
    "rotation-15": (rotated(15), "png", {}),
    "crop-20": (cropped(0.8), "png", {}),
    "combined": (much_at_once, "jpg", {"quality": 75}),
}


def plant(source, out, each, seed):
    originals = sorted(path.relative_to(source) for path in source.glob("*/*/*.jpg"))
    for path in originals:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, out / path)
    shutil.copy(source / "manifest.csv", out / "manifest.csv")
    with open(out / "planted.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["kind", "original", "copy"])
        for kind, (alter, extension, options) in KINDS.items():
            generator = random.Random(f"{seed} {kind}")
            for path in generator.sample(originals, min(each, len(originals))):
                split, label, name = path.parts
                copy = Path(OTHER_SPLIT[split], label, f"copy-{kind}-{Path(name).stem}.{extension}")
                alter(Image.open(source / path).convert("L"), generator).save(out / copy, **options)
                table.writerow([kind, path, copy])


def count(folder, audit):
    pairs = {frozenset([pair["first"]["path"], pair["second"]["path"]]) for pair in json.load(open(audit))["near_duplicates"]}
    with open(folder / "planted.csv", newline="") as file:
        planted = list(csv.DictReader(file))
    original_of = {row["copy"]: row["original"] for row in planted}
    found, all_of = Counter(), Counter()
    for row in planted:
        all_of[row["kind"]] += 1
        found[row["kind"]] += frozenset([row["original"], row["copy"]]) in pairs
    for kind, total in all_of.items():
        print(f"{kind:14} {found[kind]:4} of {total:4} found, {100 * found[kind] / total:5.1f} %")
    root = lambda path: original_of.get(path, path)
    strangers = Counter(frozenset(map(root, pair)) for pair in pairs if len(set(map(root, pair))) == 2)
    print(f"{len(pairs)} pairs in all; {sum(strangers.values())} of them are of different originals:")
    for pair, times in sorted(strangers.items(), key=lambda entry: -entry[1]):
        print(f"  {times:3} x {' '.join(sorted(pair))}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    planting = commands.add_parser("plant")
    planting.add_argument("source", type=Path)
    planting.add_argument("out", type=Path)
    planting.add_argument("--each", type=int, default=200)
    planting.add_argument("--seed", type=int, default=0)
    counting = commands.add_parser("count")
    counting.add_argument("folder", type=Path)
    counting.add_argument("audit", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "plant":
        plant(arguments.source, arguments.out, arguments.each, arguments.seed)
    else:
        count(arguments.folder, arguments.audit)


if __name__ == "__main__":
    main()
