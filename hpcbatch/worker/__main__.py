"""`python -I -m hpcbatch.worker`: what the array task of a group runs."""

from hpcbatch.worker.entry import main

raise SystemExit(main())
