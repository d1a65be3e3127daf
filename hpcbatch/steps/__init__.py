"""Run the steps of a pipeline job, on Slurm or on this machine: one process for each step that it is the turn of."""
