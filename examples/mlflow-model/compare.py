"""One line about the predictions: how many, and how often they agree with the labels kept aside."""

import csv
import sys


def main(predictions_path, truth_path):
    with open(truth_path, newline="") as file:
        truth = {(name, row): label for name, row, label in csv.reader(file)}
    with open(predictions_path, newline="") as file:
        predictions = {(name, row): label for row, label, name in csv.reader(file)}
    if predictions.keys() != truth.keys():
        sys.exit("The predictions are not one for each row of the data.")
    right = sum(truth[place] == label for place, label in predictions.items())
    files = len({name for name, _ in predictions})
    print(f"{len(predictions)} rows of {files} files scored; {right / len(predictions):.1%} as labelled")


if __name__ == "__main__":
    main(*sys.argv[1:])
