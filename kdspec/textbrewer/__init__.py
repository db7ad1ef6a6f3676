"""TextBrewer's configurations, read as data and written as a spec."""
