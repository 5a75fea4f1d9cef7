"""Episodes as flat arrays and their windows of H steps (section 4.1). NumPy only."""
