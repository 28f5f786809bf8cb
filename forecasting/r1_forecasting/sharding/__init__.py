"""Several forecasters (shards) in one release: each series is owned by one of them.

Every listener of every shard serves every series. A shard forwards the request for a series that
it does not own to the owner, once. No other shard replaces an owner that does not respond.
"""
