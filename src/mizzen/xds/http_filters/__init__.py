"""The HTTP filter chain, one file per filter."""
