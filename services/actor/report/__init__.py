"""The report: one HTML file with its pictures inside, and a JSON beside it. Imports the actor's
domain and `common`.
"""

from services.actor.report.writing import ensure_report, write_report

__all__ = ["ensure_report", "write_report"]
