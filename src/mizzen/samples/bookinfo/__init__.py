"""Bookinfo: a page about a book, from four services that behave as Istio's sample of the same name does."""
