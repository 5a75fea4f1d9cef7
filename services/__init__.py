"""The services: each trains or serves one part of the method, and knows the others through gRPC
and the store.
"""
