"""Split the rows, learn how to scale the measurements from the training rows, and scale both parts."""

import argparse
import pickle
from pathlib import Path

import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--measurements", type=Path, required=True)
    parser.add_argument("--test-size", type=float, required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--transformations", type=Path, required=True)
    args = parser.parse_args()

    rows = pd.concat(pd.read_csv(path) for path in sorted(args.measurements.glob("*.csv")))
    train, test = train_test_split(rows, test_size=args.test_size, random_state=0, stratify=rows["diagnosis"])
    columns = [name for name in rows.columns if name != "diagnosis"]
    scaler = StandardScaler().fit(train[columns])
    for name, part in (("train", train), ("test", test)):
        scaled = pd.DataFrame(scaler.transform(part[columns]), columns=columns)
        scaled["diagnosis"] = part["diagnosis"].to_numpy()
        scaled.to_csv(args.prepared / f"{name}.csv", index=False)
        print(f"{name}: {len(scaled)} rows")
    with open(args.transformations / "scaler.pkl", "wb") as file:
        pickle.dump(scaler, file)


if __name__ == "__main__":
    main()
