"""The seam to what runs processes: Slurm through submitit, or this machine."""
