"""Shared-filesystem primitives: the only place that creates, publishes and appends files others may read.

The rules come from what NFS, Lustre and GPFS really do: no locks, no rename over a name that others read, no decision
from modification times, listings before probes, fsync checked and never repeated after a failure.
"""
