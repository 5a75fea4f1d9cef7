"""The services: each trains or serves one part of the method. They import `common`, never each other."""
