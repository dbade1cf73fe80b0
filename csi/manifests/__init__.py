"""GlusterClusters, GlusterHosts and GlusterDevices as people write and delete them with kubectl."""
