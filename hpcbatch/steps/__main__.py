"""`python -I -m hpcbatch.steps`: what the Slurm job of a step runs."""

from hpcbatch.steps.entry import main

raise SystemExit(main())
