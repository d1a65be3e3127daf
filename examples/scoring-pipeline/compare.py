"""One line about the scores: how many, and how often they agree with the labels kept aside."""

import csv
import sys
from pathlib import Path


def main(scores, truth_path):
    with open(truth_path, newline="") as file:
        truth = {(name, int(row)): label for name, row, label in csv.reader(file)}
    found = {}
    for path in sorted(Path(scores).glob("*.csv")):
        with open(path, newline="") as file:
            found.update({(path.name, row): line["prediction"] for row, line in enumerate(csv.DictReader(file))})
    if found.keys() != truth.keys():
        sys.exit("The scores are not one for each row of the data.")
    right = sum(truth[place] == label for place, label in found.items())
    print(f"{len(found)} rows of {len({name for name, _ in found})} files scored; {right / len(found):.1%} as labelled")


if __name__ == "__main__":
    main(*sys.argv[1:])
