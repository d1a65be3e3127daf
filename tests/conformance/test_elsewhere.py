"""The rows about what runs, what is promised, what people complained of: where each has its test, or why not.

`3.x` how scoring scripts are run, `4.x` what batch endpoints promise, `5.x` complaints and requests of their users,
`6` Azure's samples (docs/explanation/azure-ml-mapping.md says how to run them).
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES, PROMISES = "contract/cases.py", "contract/test_promises.py"
DRIVER, MERGE = "unit/scoring/test_driver_process.py", "unit/merge/test_merge.py"
CLI, YAML = "conformance/test_cli.py", "conformance/test_yaml.py"
FILES, MLFLOW = "contract/test_output_files.py", "contract/test_mlflow.py"

ROWS: dict[str, tuple[str, str]] = {
    "3.1 init, once per process, optional": (DRIVER, "test_init_and_shutdown_are_optional_and_shutdown_may_fail"),
    "3.1 init fails": (CASES, "init() raises"),
    "3.1 run gets a list of absolute paths": (DRIVER, "test_a_life_from_init_to_shutdown"),
    "3.1 list": (CASES, "a list of anything"),
    "3.1 tuple": (CASES, "a tuple"),
    "3.1 DataFrame": (CASES, "a data frame"),
    "3.1 arrays, beyond Azure": (CASES, "arrays"),
    "3.1 other return types": (CASES, "wrong return types"),
    "3.1 sys.argv, cwd, imports": (DRIVER, "test_arguments_paths_and_modules_are_those_of_the_script"),
    "3.2 fewer rows than files": (CASES, "fewer rows than files"),
    "3.2 more rows than files": (CASES, "more rows than files"),
    "3.3 bytes of rows": (DRIVER, "test_what_run_may_return"),
    "3.3 order": ("unit/merge/test_merge.py", "test_the_bytes_do_not_depend_on_the_groups"),
    "3.3 nothing succeeded": (CASES, "nothing succeeds"),
    "3.3 summary_only": (FILES, "test_new_files_appended_files_and_open_files_are_there_once_and_in_order"),
    "3.3 an output that is there": (PROMISES, "test_an_output_folder_of_ones_own"),
    "3.4 one predict per file": ("unit/scoring/test_mlflow_models.py", "test_one_predict_per_file_in_their_order"),
    "3.4 csv, parquet, nested folders": (MLFLOW, "test_tables_of_every_format_in_nested_folders_and_two_groups"),
    "3.4 images": (MLFLOW, "test_images_take_the_shape_and_type_of_the_signature"),
    "3.4 unsupported files": (MLFLOW, "test_unsupported_files_are_all_named_before_anything_is_submitted"),
    "3.4 types of the signature": (MLFLOW, "test_the_signature_types_the_columns_while_they_are_read"),
    "3.5 error_threshold": (MERGE, "test_the_error_threshold_counts_items_as_azure_does"),
    "3.6 timeout": (CASES, "a hang"),
    "3.6 tries": (CASES, "an exception every time"),
    "3.6 a crash is one try": (CASES, "a segmentation fault"),
    "3.7 splitting by count of files": ("unit/planning/test_plan.py", "def test_"),
    "3.8 variables": (CASES, "what scripts rely on"),
    "3.9 logs": (CASES, "prints"),
    "3.10 low priority": ("slurm/test_jobs.py", "test_preempted_tasks_go_on_where_they_stopped"),
    "3.11 download layout": (PROMISES, "test_files_that_a_script_writes_and_the_layout_of_a_download"),
    "4.1 invoke returns at once": (CLI, "test_2_3_jobs"),
    "4.2 pointers to data": ("unit/operations/test_invoke_input.py", "test_a_data_asset_is_scored_by_its_reference"),
    "4.3 parallel": (CASES, "two drivers, two groups"),
    "4.4 outputs, overridden per job": (PROMISES, "test_an_output_folder_of_ones_own"),
    "4.5 several deployments": (CLI, "test_2_1_the_default_moves_and_invoke_says_what_az_says"),
    "4.6 default deployment": (CLI, "test_2_1_the_default_moves_and_invoke_says_what_az_says"),
    "4.7 two types of deployment": ("contract/test_pipelines.py", "test_a_diamond_passes_its_data_on"),
    "4.9 scoring script": (DRIVER, "test_a_life_from_init_to_shutdown"),
    "4.10 what is required": (YAML, "test_1_2_what_cannot_be_is_an_error_that_names_the_field"),
    "4.11 pipelines reuse components": ("contract/test_pipelines.py", "test_inputs_of_the_pipeline_reach_the_steps"),
    "4.14 overrides per job": ("unit/cli/test_job_verbs.py", "test_overrides_reach_the_job"),
    "4.15 resume from where it was left": ("slurm/test_jobs.py", "test_preempted_tasks_go_on_where_they_stopped"),
    "4.18 implementation behind a name": (PROMISES, "test_edits_after_create_and_during_the_job_change_nothing"),
    "4.19 flexible sources": ("unit/operations/test_remote_input.py", "test_objects_are_scored_as_files_are"),
    "4.21 under the invoker's identity": ("contract/test_threats.py", "test_t17_nobody_else_may_read_a_job"),
    "5.1 duplicate rows": ("contract/test_interruptions.py", "test_workers_and_drivers_are_killed_at_random_moments"),
    "5.2 two rows merged": ("contract/test_interruptions.py", "test_the_merge_is_killed_again_and_again"),
    "5.3 a newline or separator in the data": (DRIVER, "test_what_run_may_return"),
    "5.5 more than one row per input": (CASES, "more rows than files"),
    "5.6 the real error is buried": (CLI, "test_2_3_a_failed_job_makes_stream_fail"),
    "5.7 invoke is not idempotent": ("contract/test_interruptions.py", "test_invoke_is_killed_at_many_moments"),
    "5.9 registered inputs": ("unit/operations/test_invoke_input.py", "test_a_data_asset_is_scored_by_its_reference"),
    "5.10 a script over an MLflow model": (MLFLOW, "test_a_script_beside_an_mlflow_model_is_what_runs"),
    "5.11 nobody says where predictions.csv is": ("unit/cli/test_job_view.py", "test_where_things_are"),
    "5.12 update drops settings": (CLI, "test_2_2_update_changes_one_thing_and_drops_nothing"),
    "5.13 samples that fail": ("examples/test_azureml_examples.py", "def test_"),
    "5.14 stray files kill the job": (MLFLOW, "test_unsupported_files_are_all_named_before_anything_is_submitted"),
    "5.16 schema URLs that are down": (YAML, "$schema decides nothing"),
    "5.17 never processed, no clue": ("slurm/test_jobs.py", "test_a_job_that_vanished_from_the_queue_is_stalled"),
    "5.18 the environment must hold Azure's modules": (CASES, "an environment with nothing in it"),
    "5.20 the output exists, no message": (PROMISES, "test_an_output_folder_of_ones_own"),
    "5.21 no default deployment": (CLI, "test_2_1_the_default_moves_and_invoke_says_what_az_says"),
    "5.22 permissions": (
        "contract/test_refusals_of_the_filesystem.py",
        "test_what_may_not_be_read_or_written_is_named",
    ),
    "5.23 nested folders": (CASES, "nested folders"),
    "5.24 the whole cluster is taken away": ("slurm/test_jobs.py", "test_preempted_tasks_go_on_where_they_stopped"),
    "5.25 outputs anywhere": (PROMISES, "test_an_output_folder_of_ones_own"),
    "5.26 help of an editor": ("unit/spec/test_schema.py", "test_what_conforms_is_right"),
    "5.27 the merge is preempted": ("slurm/test_preemption_matrix.py", "test_preempted_at_half"),
    "6 heart-classifier-mlflow": ("examples/test_azureml_examples.py", "test_heart_classifier_mlflow"),
    "6 custom-outputs-parquet": ("examples/test_azureml_examples.py", "test_custom_outputs_parquet"),
    "6 mnist-classifier": ("examples/test_azureml_mnist.py", "test_mnist_classifier"),
    "6 hello-batch": ("examples/test_azureml_pipelines.py", "test_hello_batch"),
    "6 batch-scoring-with-preprocessing": (
        "examples/test_azureml_pipelines.py",
        "test_batch_scoring_with_preprocessing",
    ),
    "6 training-with-components": ("examples/test_azureml_pipelines.py", "test_training_with_components"),
    "6 foundation-models": ("examples/test_azureml_examples.py", "test_deployment_files_of_the_foundation_models"),
}
WITHOUT: dict[str, str] = {
    "3.1 empty DataFrame input": "tables as input exist in parallel jobs only",
    "3.6 no-progress watchdog": "`timeout` is the only clock of a mini-batch",
    "4.8 same assets as online endpoints": "there are no online endpoints",
    "4.13 provision and deallocate": "an allocation lives as long as its job: Slurm's own promise",
    "4.16 no charge for endpoints": "an endpoint is a file",
    "4.17 scale to zero": "as 4.13",
    "4.20 private networks, tokens": "permissions of files decide",
    "4.22 mounts": "a cluster's file systems are mounted",
    "5.15 a deployment from a job": "of pipeline deployments: their own tests",
    "5.8 a model as input": "of pipeline deployments: their own tests",
    "5.4 no header, another separator": "Azure's bytes are the default; a header is asked for: how-to/read-the-output",
    "6 imagenet-classifier, huggingface-text-summarization": "their models and data are downloaded while they run",
    "6 openai-embeddings": "it calls a service",
    "5.19 the default timeout is short": "the same default, for the same files",
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_its_test(row: str) -> None:
    path, name = ROWS[row]
    assert name in (ROOT / "tests" / path).read_text("utf-8")


def test_no_row_is_said_twice() -> None:
    assert not ROWS.keys() & WITHOUT.keys()
    assert all(WITHOUT.values())
