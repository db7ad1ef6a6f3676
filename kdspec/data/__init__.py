"""Tables, texts, labels and tags to model inputs, for our tasks and those of other packages."""
