"""Lay out the data (Breast Cancer Wisconsin, see README.md), which comes with scikit-learn: data/train/*.csv."""

from pathlib import Path

from sklearn.datasets import load_breast_cancer

HERE = Path(__file__).resolve().parent
FILES = 4


def main():
    data = load_breast_cancer(as_frame=True)
    rows = data.data.rename(columns=lambda name: name.replace(" ", "_"))
    rows["diagnosis"] = data.target_names[data.target]
    folder = HERE / "data" / "train"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        rows.iloc[number::FILES].to_csv(folder / f"part-{number}.csv", index=False)
    print(f"{len(rows)} rows in {FILES} files")


if __name__ == "__main__":
    main()
