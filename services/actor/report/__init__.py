"""The report: one HTML file with its pictures inside, and a JSON beside it. Imports the actor's
domain and `common`.
"""
