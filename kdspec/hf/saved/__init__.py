"""What stands in a model folder that has been written: the code that it asks for, and how it is used."""
