"""The documents users write: YAML in, frozen models out. What is wrong is one SpecError with file, line, field."""
