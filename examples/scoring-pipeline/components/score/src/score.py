"""Score every prepared file with the model; `append` keeps the measurements beside the scores."""

import argparse
from pathlib import Path

import mlflow
import pandas as pd


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--score_mode", required=True)
    parser.add_argument("--scores", type=Path, required=True)
    args = parser.parse_args()

    model = mlflow.pyfunc.load_model(args.model)
    for path in sorted(args.data.glob("*.csv")):
        rows = pd.read_csv(path)
        scores = pd.Series(model.predict(rows), name="prediction")
        result = rows.assign(prediction=scores) if args.score_mode == "append" else scores.to_frame()
        result.to_csv(args.scores / path.name, index=False)
        print(f"{path.name}: {len(result)} rows scored")


if __name__ == "__main__":
    main()
