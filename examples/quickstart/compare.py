"""One line about the predictions: how many, of what kind, and how often they agree with the labels kept aside."""

import collections
import csv
import sys


def main(predictions_path, truth_path):
    with open(truth_path, newline="") as file:
        truth = {(name, row): label for name, row, label in csv.reader(file)}
    with open(predictions_path, newline="") as file:
        predictions = [(name, row, label) for name, row, label, _ in csv.reader(file, delimiter=" ")]
    if sorted((name, row) for name, row, _ in predictions) != sorted(truth):
        sys.exit("The predictions are not one for each row of the data.")
    kinds = collections.Counter(label for _, _, label in predictions)
    right = sum(truth[name, row] == label for name, row, label in predictions)
    files = len({name for name, _, _ in predictions})
    print(
        f"{len(predictions)} rows of {files} files scored: "
        f"{kinds['benign']} benign, {kinds['malignant']} malignant; {right / len(predictions):.1%} as labelled"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
