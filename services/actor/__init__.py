"""The actor: policies over the learned models, rollouts, scores and the report. Imports `common`,
no other service.
"""
