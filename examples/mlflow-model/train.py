"""Train the model, save it as MLflow does, and lay out the files to score: model/, data/, truth.csv to compare with.

The data set (Wine, see README.md) comes with scikit-learn. Half of it trains the model; the rest, without its labels,
becomes five CSV files, two of them in a folder below data/.
"""

import csv
import shutil
from pathlib import Path

import mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
FILES = {"2024/april.csv": 20, "2024/may.csv": 7, "january.csv": 40, "june.csv": 1, "march.csv": 21}


def main():
    data = load_wine(as_frame=True)
    cultivars = data.target_names[data.target]
    train_x, rest_x, train_y, rest_y = train_test_split(
        data.data, cultivars, train_size=0.5, random_state=0, stratify=cultivars
    )
    model = RandomForestClassifier(n_estimators=50, random_state=0)
    model.fit(train_x, train_y)

    shutil.rmtree(HERE / "model", ignore_errors=True)
    requirements = (HERE / "requirements.txt").read_text().split()
    mlflow.sklearn.save_model(
        model,
        HERE / "model",
        signature=infer_signature(train_x, model.predict(train_x)),
        serialization_format="cloudpickle",
        pip_requirements=requirements,
    )

    truth = []
    first = 0
    for name, rows in FILES.items():
        path = HERE / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rest_x.iloc[first : first + rows].to_csv(path, index=False)
        truth += [(name, row, label) for row, label in enumerate(rest_y[first : first + rows])]
        first += rows
    assert first == len(rest_x)
    with open(HERE / "truth.csv", "w", newline="") as file:
        csv.writer(file).writerows(truth)
    print(f"Trained on {len(train_x)} rows; wrote {first} rows to score into {len(FILES)} files")


if __name__ == "__main__":
    main()
