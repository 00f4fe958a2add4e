"""etcdctl with ETCDCTL_API=2: its own command line, its own words, HTTP instead of gRPC."""
