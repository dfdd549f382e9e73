"""The source task of experiments/transfer.toml: the ChestX-ray8 images of a data set's training split, as a data set.

    python reference/transfer_source.py DATA OUT

DATA has a manifest.csv with the columns path, split, label, patient_id and source. OUT gets links to the images of the
source ChestX-ray8 in the training split alone, so that no image that the target task is validated or tested on is seen;
every fifth patient, in the order of the SHA-256 of its id, is put aside for validation. Needs nothing but Python.
"""

import csv
import hashlib
import pathlib
import sys


def main(data: pathlib.Path, out: pathlib.Path) -> None:
    with open(data / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train" and row["source"] == "ChestX-ray8"]
    patients = sorted({row["patient_id"] for row in rows}, key=lambda id: hashlib.sha256(id.encode()).digest())
    held_out = set(patients[::5])
    table = []
    for row in rows:
        split = "validation" if row["patient_id"] in held_out else "train"
        image = data / row["path"]
        link = out / split / row["label"] / image.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image.resolve())
        table.append([link.relative_to(out).as_posix(), split, row["label"], row["finding"], row["patient_id"], row["source"]])
    with open(out / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "label", "finding", "patient_id", "source"])
        writer.writerows(table)
    print(f"{len(table)} images of {len(patients)} patients, {len(held_out)} of them for validation")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
