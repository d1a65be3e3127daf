"""Pure functions: items to mini-batches to groups to windows. No time, no disk, no environment."""
