"""Language models that answer prompts with one of the classes."""
