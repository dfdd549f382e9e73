"""Plants altered copies of radiographs in a data set, and counts which of them `roentgen audit --json` found.

    python audit_copies.py plant ../shared/data/cxr /tmp/planted [--each 200] [--strangers N] [--seed 0]
    roentgen audit --data /tmp/planted --json > audit.json
    python audit_copies.py count /tmp/planted audit.json

A copy goes into another split than its original, so that each is a leak. Originals keep their `manifest.csv`; of copies
it says nothing. `planted.csv` beside it holds the truth. What an earlier call planted in the folder is removed first.

Strangers make the data set larger, for the question whether copies are still found among many images: the left half of
one image and the right half of another patient's, each bent by itself; `strangers.csv` says of which. They have the
structure of chests and are copies of nothing, but each has two images that it resembles more than chance would have it:
they are in the way of a search rather more than as many other patients are. Pairs with one of them are counted by
themselves. Written with Pillow 13.0.
"""

import argparse
import csv
import json
import random
import shutil
from collections import Counter
from functools import cache
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


def bent(image, random, nodes=5, by=0.03):
    """Moved at `nodes` x `nodes` places inside by a share `by` of the sides or so, and between them by what is around."""
    width, height = image.size

    def moved(column, row):
        place = column * width / (nodes + 1), row * height / (nodes + 1)
        return [min(max(at + random.gauss(0, by) * side, 0), side) for at, side in zip(place, image.size)]

    to = [[moved(column, row) for column in range(nodes + 2)] for row in range(nodes + 2)]
    corners = [[round(at * side / (nodes + 1)) for at in range(nodes + 2)] for side in image.size]
    mesh = []
    for row in range(nodes + 1):
        for column in range(nodes + 1):
            box = corners[0][column], corners[1][row], corners[0][column + 1], corners[1][row + 1]
            from_there = [to[row][column], to[row + 1][column], to[row + 1][column + 1], to[row][column + 1]]
            mesh.append((box, [value for place in from_there for value in place]))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BICUBIC)


def stranger(one, other, random):
    """The left half of one and the right half of the other, without a seam, in the size of the first."""
    width, height = one.size
    left, right = bent(one, random), bent(other.resize(one.size, Image.Resampling.BICUBIC), random)
    seam = [min(max(round(255 * ((x + 0.5) / width - 0.4) / 0.2), 0), 255) for x in range(width)]
    mask = Image.new("L", (width, 1))
    mask.putdata(seam)
    return Image.composite(right, left, mask.resize((width, height)))


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


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def plant(source, out, each, strangers, seed):
    for earlier in [path for pattern in ("copy-*", "stranger-*") for path in out.glob(f"*/*/{pattern}")]:
        earlier.unlink()
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
    plant_strangers(source, out, originals, strangers, random.Random(f"{seed} strangers"))


def plant_strangers(source, out, originals, strangers, generator):
    patient_of = {Path(row["path"]): row["patient_id"] for row in read_table(source / "manifest.csv")}
    small = cache(lambda path: shrunk(Image.open(source / path).convert("L"), generator))
    with open(out / "strangers.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["stranger", "left", "right"])
        for number in range(strangers):
            one, other = generator.sample(originals, 2)
            while patient_of[one] == patient_of[other]:
                other = generator.choice(originals)
            split, label, _ = one.parts
            made = Path(split, label, f"stranger-{number:05}.jpg")
            stranger(small(one), small(other), generator).save(out / made, quality=90)
            table.writerow([made, one, other])


def count(folder, audit):
    with open(audit) as file:
        pairs = {frozenset([pair["first"]["path"], pair["second"]["path"]]) for pair in json.load(file)["near_duplicates"]}
    planted, strangers = (read_table(folder / f"{name}.csv") for name in ("planted", "strangers"))
    original_of = {row["copy"]: row["original"] for row in planted}
    is_stranger = {row["stranger"] for row in strangers}
    found, all_of = Counter(), Counter()
    for row in planted:
        all_of[row["kind"]] += 1
        found[row["kind"]] += frozenset([row["original"], row["copy"]]) in pairs
    for kind, total in all_of.items():
        print(f"{kind:14} {found[kind]:4} of {total:4} found, {100 * found[kind] / total:5.1f} %")
    root = lambda path: original_of.get(path, path)
    different = Counter(frozenset(map(root, pair)) for pair in pairs if len(set(map(root, pair))) == 2)
    with_stranger = {pair: times for pair, times in different.items() if pair & is_stranger}
    print(f"{len(pairs)} pairs in all")
    for what, which in [
        (f"are with one of the {len(is_stranger)} strangers", with_stranger),
        ("are of different originals", {pair: times for pair, times in different.items() if pair not in with_stranger}),
    ]:
        print(f"{sum(which.values())} of them {what}")
        for pair, times in sorted(which.items(), key=lambda entry: (-entry[1], sorted(entry[0]))):
            print(f"  {times:3} x {' '.join(sorted(pair))}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    planting = commands.add_parser("plant")
    planting.add_argument("source", type=Path)
    planting.add_argument("out", type=Path)
    planting.add_argument("--each", type=int, default=200)
    planting.add_argument("--strangers", type=int, default=0)
    planting.add_argument("--seed", type=int, default=0)
    counting = commands.add_parser("count")
    counting.add_argument("folder", type=Path)
    counting.add_argument("audit", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "plant":
        plant(arguments.source, arguments.out, arguments.each, arguments.strangers, arguments.seed)
    else:
        count(arguments.folder, arguments.audit)


if __name__ == "__main__":
    main()
