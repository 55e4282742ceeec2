"""How fast kvdict is beside what a user would pick instead: `python -m benchmarks`."""
