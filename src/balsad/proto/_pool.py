"""The descriptor pool of this package's own messages.

A pool of its own keeps `etcdserverpb.*` and friends from colliding with the
same names registered by another etcd client library in the same process.
"""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
