"""Use cases on the login node: plain data in, plain data out, errors of ours."""
