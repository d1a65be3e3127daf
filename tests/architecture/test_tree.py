"""What may lie where, and what the tree must not give away."""

from __future__ import annotations

import re

from tests.architecture.tree import ROOT, report, tracked_files, where

TOP_LEVEL = {
    "pyproject.toml", "README.md", "LICENSE", "hpcbatch", "slurm", "tests", "docs", "examples", "containers",
}  # fmt: skip
MACHINE_PATHS = re.compile(r"(?:^|[^\w.-])/(?:work|farm|root)/|(?:^|[^\w.-])/tmp/[d]ev/|[.]lib" + "rary")
PRIVATE_KEYS = re.compile("-----BEGIN [A-Z ]*PRIVATE" + " KEY-----")


def test_the_top_level_holds_what_the_layout_names() -> None:
    """A newcomer sees nine names; dot-files come on top."""
    names = {path.relative_to(ROOT).parts[0] for path in tracked_files()}
    report(sorted(name for name in names - TOP_LEVEL if not name.startswith(".")), "Not in the layout:")
    assert {"pyproject.toml", "README.md", "LICENSE", "hpcbatch", "tests", "docs", "examples"} <= names


def test_no_path_of_one_machine_is_in_the_tree() -> None:
    """What runs here runs in a fresh clone elsewhere."""
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" in content[:8192]:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            if MACHINE_PATHS.search(line) or PRIVATE_KEYS.search(line):
                found.append(f"{where(path, number)} {line.strip()[:100]}")
    report(found, "Paths of one machine, or keys:")


def test_generated_files_stay_out_of_the_tree() -> None:
    """Models and predictions are made by the examples, not kept with them."""
    kinds = {".pkl", ".pickle", ".joblib", ".pt", ".h5", ".onnx", ".pyc", ".so", ".parquet"}
    found = [where(path, 1) for path in tracked_files() if path.suffix in kinds and "golden" not in path.parts]
    report(found, "Generated:")
    large = [
        f"{where(path, 1)} {path.stat().st_size} bytes" for path in tracked_files() if path.stat().st_size > 1 << 20
    ]
    report(large, "Larger than 1 MiB:")
