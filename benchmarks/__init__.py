"""Benchmarks behind `ldcq bench`: each measures what is compared side by side in one run and says
so in ratios. May import everything; nothing imports it but the command line.
"""
