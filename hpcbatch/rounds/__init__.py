"""Start one round of a job where its compute is: submitted to Slurm, or supervised on this machine."""
