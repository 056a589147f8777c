"""The speed of OpsConductor, measured beside that of its peers in one run: `python -m benchmarks`."""
