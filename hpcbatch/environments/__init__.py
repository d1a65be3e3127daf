"""Which interpreter runs a scoring script: the environment's own, one an administrator mapped, or ours."""
