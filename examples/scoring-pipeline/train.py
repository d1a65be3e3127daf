"""Train the model and the scaler that belongs to it, and lay out files to score: model/, transformations/, data/.

The data set (Breast Cancer Wisconsin, see README.md) comes with scikit-learn. Half of it trains the model; the rest,
without its labels, becomes three CSV files, and truth.csv to compare with.
"""

import csv
import pickle
import shutil
from pathlib import Path

import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
FILES = {"january.csv": 100, "march.csv": 160, "may.csv": 25}


def main():
    data = load_breast_cancer(as_frame=True)
    measurements = data.data.rename(columns=lambda name: name.replace(" ", "_"))
    labels = data.target_names[data.target]
    train_x, rest_x, train_y, rest_y = train_test_split(
        measurements, labels, train_size=0.5, random_state=0, stratify=labels
    )
    scaler = StandardScaler().fit(train_x)
    scaled = pd.DataFrame(scaler.transform(train_x), columns=train_x.columns)
    model = LogisticRegression(max_iter=1000).fit(scaled, train_y)

    for name in ("model", "transformations"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    signature = infer_signature(scaled, model.predict(scaled))
    mlflow.sklearn.save_model(model, HERE / "model", signature=signature, serialization_format="cloudpickle",
                              pip_requirements=[])  # fmt: skip
    (HERE / "transformations").mkdir()
    with open(HERE / "transformations" / "scaler.pkl", "wb") as file:
        pickle.dump(scaler, file)

    folder = HERE / "data" / "unlabeled"
    folder.mkdir(parents=True, exist_ok=True)
    truth = []
    first = 0
    for name, rows in FILES.items():
        rest_x.iloc[first : first + rows].to_csv(folder / name, index=False)
        truth += [(name, row, label) for row, label in enumerate(rest_y[first : first + rows])]
        first += rows
    assert first == len(rest_x)
    with open(HERE / "truth.csv", "w", newline="") as file:
        csv.writer(file).writerows(truth)
    print(f"Trained on {len(train_x)} rows; wrote {first} rows to score into {len(FILES)} files")


if __name__ == "__main__":
    main()
