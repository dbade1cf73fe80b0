"""The external storage suite of Kubernetes against our driver, on a real node with a pool of the laboratory."""
