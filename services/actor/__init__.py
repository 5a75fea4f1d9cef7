"""The actor: it plays policies over the learned models, serves them, scores and reports."""
