"""User data in and out."""
