"""Azure's samples are tested where they are: each file says which checkout and interpreters it needs."""

import os

_NEEDS = {
    "test_azureml_examples.py": ("EXAMPLES", "PYTHON"),
    "test_azureml_pipelines.py": ("EXAMPLES", "PYTHON"),
    "test_azureml_mnist.py": ("EXAMPLES", "TORCH_PYTHON", "KERAS_PYTHON"),
}
collect_ignore = [
    file for file, names in _NEEDS.items() if not all(os.environ.get(f"HPCBATCH_AZUREML_{name}") for name in names)
]
