"""Azure's samples are tested where they are: see test_azureml_examples.py and test_azureml_pipelines.py."""

import os

_SAMPLES = ["test_azureml_examples.py", "test_azureml_pipelines.py"]
collect_ignore = [] if "HPCBATCH_AZUREML_EXAMPLES" in os.environ else _SAMPLES
