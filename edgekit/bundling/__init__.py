"""Make a bundle of a model: labels, golden vectors, manifest, signature; and say what a file is."""
