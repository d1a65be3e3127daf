"""`python -m hpcbatch`."""

from hpcbatch.cli.main import main

raise SystemExit(main())
