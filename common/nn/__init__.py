"""Small network parts that services share: pure torch modules that artifacts are rebuilt into.

May import torch and the artifact types of common.store.
"""
