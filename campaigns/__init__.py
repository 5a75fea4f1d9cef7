"""Trials of the running system over minutes or hours: what it bears, beside what it can do.

They start servers and call them as strangers do; nothing imports them but their tests.
"""
