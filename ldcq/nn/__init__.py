"""Small network parts that the models share."""
