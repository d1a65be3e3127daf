"""Copy the model with the better accuracy, and write down both."""

import argparse
import json
import shutil
from pathlib import Path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--evaluations", type=Path, nargs="+", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args()

    evaluations = [json.loads((folder / "evaluation.json").read_text()) for folder in args.evaluations]
    best = max(range(len(evaluations)), key=lambda number: evaluations[number]["accuracy"])
    shutil.copytree(args.models[best], args.model, dirs_exist_ok=True)
    report = {"chosen": evaluations[best]["kind"], "evaluations": evaluations}
    (args.report / "report.json").write_text(json.dumps(report, indent=1))
    print(f"The {report['chosen']} model is the better one")


if __name__ == "__main__":
    main()
