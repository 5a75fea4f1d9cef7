"""The paper's tables and figures, one module each: configurations run through the ordinary
pipeline, scores over training seeds, and the pages that show them. Imports the services' parts that
score and draw, and `common`; how a pipeline is run is handed in by the command line.
"""
