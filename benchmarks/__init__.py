"""Comparisons side by side: `make bench`. Each prints a table and writes JSON to ``benchmarks/results``."""
