"""From a spec to a run: what the command line and the functions `kdspec.run`, `kdspec.plan` and `kdspec.check` share."""
