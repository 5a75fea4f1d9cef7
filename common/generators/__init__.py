"""Datasets that are made here, by scripted or trained agents in real simulators."""
