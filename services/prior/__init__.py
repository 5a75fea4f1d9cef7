"""The latent prior p(z | s): implementations behind one protocol, their trainer and server. Imports
`common` only.
"""
