"""What every learner is made of: batches by a seed and a step, Adam, averages, ranks."""
