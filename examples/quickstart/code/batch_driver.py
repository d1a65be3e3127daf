"""The scoring script: Azure ML's `init`, `run` and `shutdown`. Nothing here knows of hpcbatch or of Slurm."""

import argparse
import glob
import logging
import os
import pickle

import pandas as pd


def init():
    global model, scored
    parser = argparse.ArgumentParser()
    parser.add_argument("--logging_level", default="info")
    arguments, _ = parser.parse_known_args()
    logging.basicConfig(level=arguments.logging_level.upper(), format="%(levelname)s %(message)s")

    [path] = glob.glob(os.path.join(os.environ["AZUREML_MODEL_DIR"], "*", "model.pkl"))
    with open(path, "rb") as file:
        model = pickle.load(file)
    scored = 0
    logging.info("Loaded %s", path)


def run(mini_batch):
    global scored
    print(f"run() got {len(mini_batch)} files: {[os.path.basename(path) for path in mini_batch]}")
    results = []
    for path in mini_batch:
        measurements = pd.read_csv(path)
        probability = model.predict_proba(measurements)[:, 1]
        results.append(
            pd.DataFrame(
                {
                    "file": os.path.basename(path),
                    "row": range(len(measurements)),
                    "prediction": ["benign" if p >= 0.5 else "malignant" for p in probability],
                    "probability": probability.round(6),
                }
            )
        )
        scored += len(measurements)
    return pd.concat(results)


def shutdown():
    logging.info("This process scored %d rows", scored)
