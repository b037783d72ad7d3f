"""The questions that the command line and the dashboard both ask."""
