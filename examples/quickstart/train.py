"""Train the model and lay out the files to score: model/model.pkl, data/*.csv, and truth.csv to compare with.

The data set (Breast Cancer Wisconsin, see README.md) comes with scikit-learn. 60 % of it trains the model; the rest,
without its labels, becomes eight CSV files of very different lengths.
"""

import csv
import pickle
from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
ROWS_PER_FILE = (5, 40, 12, 70, 1, 33, 47, 20)


def main():
    data = load_breast_cancer(as_frame=True)
    train_x, rest_x, train_y, rest_y = train_test_split(
        data.data, data.target, train_size=0.6, random_state=0, stratify=data.target
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train_x, train_y)

    (HERE / "model").mkdir(exist_ok=True)
    (HERE / "model" / "model.pkl").write_bytes(pickle.dumps(model))

    (HERE / "data").mkdir(exist_ok=True)
    truth = []
    first = 0
    for number, rows in enumerate(ROWS_PER_FILE):
        name = f"clinic-{number:02}.csv"
        rest_x.iloc[first : first + rows].to_csv(HERE / "data" / name, index=False)
        labels = data.target_names[rest_y.iloc[first : first + rows]]
        truth += [(name, row, label) for row, label in enumerate(labels)]
        first += rows
    assert first == len(rest_x)
    with open(HERE / "truth.csv", "w", newline="") as file:
        csv.writer(file).writerows(truth)
    print(f"Trained on {len(train_x)} rows; wrote {first} rows to score into {len(ROWS_PER_FILE)} files")


if __name__ == "__main__":
    main()
