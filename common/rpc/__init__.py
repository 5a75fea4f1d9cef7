"""How services speak: codec, server life cycle, channels, clients.

May import `common.config` and `common.store`, never torch: a client of a served policy stays thin.
"""
