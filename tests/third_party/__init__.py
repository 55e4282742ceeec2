"""Clients that are not ours, against the served emulator."""
