"""How services speak: codec, server life cycle, channels, clients.

May import `ldcq.config` and `common.store`, never torch: a client of a served policy stays thin.
"""
