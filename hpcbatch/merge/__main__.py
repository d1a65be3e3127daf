"""`python -I -m hpcbatch.merge`: what the dependent job runs."""

from hpcbatch.merge.entry import main

raise SystemExit(main())
