"""Scale every file of measurements as it was learnt in training; without transformations, leave the numbers alone."""

import argparse
import pickle
from pathlib import Path

import pandas as pd


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--measurements", type=Path, required=True)
    parser.add_argument("--transformations", type=Path)
    parser.add_argument("--prepared", type=Path, required=True)
    args = parser.parse_args()

    scaler = None
    if args.transformations is not None:
        with open(args.transformations / "scaler.pkl", "rb") as file:
            scaler = pickle.load(file)
    for path in sorted(args.measurements.glob("*.csv")):
        rows = pd.read_csv(path)
        if scaler is not None:
            rows = pd.DataFrame(scaler.transform(rows), columns=rows.columns)
        rows.to_csv(args.prepared / path.name, index=False)
        print(f"{path.name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
