"""Tests of the journal by itself: files, processes, and their ends."""
