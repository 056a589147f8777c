"""The peers: each module is a program, run with the peers' own Python, that prints its figures (report.py)."""
