"""Train one classifier, log how good it is, and save it as MLflow does."""

import argparse
import json
from pathlib import Path

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kind", required=True)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True)
    args = parser.parse_args()

    train, test = (pd.read_csv(args.data / f"{name}.csv") for name in ("train", "test"))
    columns = [name for name in train.columns if name != "diagnosis"]
    if args.kind == "forest":
        model = RandomForestClassifier(n_estimators=args.trees, random_state=0)
    else:
        model = LogisticRegression(max_iter=1000)
    model.fit(train[columns], train["diagnosis"])
    accuracy = float(model.score(test[columns], test["diagnosis"]))

    mlflow.log_param("kind", args.kind)
    mlflow.log_metric("accuracy", accuracy)
    signature = infer_signature(train[columns], model.predict(train[columns]))
    mlflow.sklearn.save_model(model, args.model, signature=signature, serialization_format="cloudpickle",
                              pip_requirements=[])  # fmt: skip
    (args.evaluation / "evaluation.json").write_text(json.dumps({"kind": args.kind, "accuracy": accuracy}))
    print(f"{args.kind}: {accuracy:.3f} of {len(test)} rows right")


if __name__ == "__main__":
    main()
