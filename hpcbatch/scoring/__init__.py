"""User code: the driver that runs in the user's environment, and the process that the worker holds on to."""
