"""End to end: image from the Dockerfile, chart, real sidecars on a real node, a pool of the laboratory."""
