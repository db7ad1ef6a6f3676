"""The kinds of component, what each builds, and what it may read to build it."""
