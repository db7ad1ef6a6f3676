"""The working objects of a run: tasks, batches, features, logits, objectives and evaluators."""
