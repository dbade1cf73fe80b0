"""The groups of volumes in Kubernetes: whether each pod has the GID of the volumes that it mounts."""
