"""The services: each trains or serves one part of the method and imports `common` only."""
