"""MLflow in user code: a private store for each process that runs some, and what was logged in it."""
