"""Quantisation of a trained float detector, without annotations."""
