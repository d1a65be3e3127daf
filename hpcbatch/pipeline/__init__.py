"""The graph of a pipeline, pure: what a command becomes, what may start, what makes two steps the same."""
