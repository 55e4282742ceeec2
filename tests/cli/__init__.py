"""The command, as a person and as a program use it."""
