"""One Linux machine as a cluster."""
