"""One module for each command; `etcdctl_tree` and `etcdutl_tree` name their functions."""
