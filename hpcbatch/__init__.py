"""Batch endpoints and deployments for Slurm clusters.

Public names are loaded when first used: a thousand array tasks import this package at once from one shared filesystem.
"""

__version__ = "0.1.0"
