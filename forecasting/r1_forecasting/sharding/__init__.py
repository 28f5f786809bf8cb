"""One release of several forecasters: each subject has its home on one of them.

Every door of every shard answers for every subject. What a shard does not own it asks of the owner,
once; what the owner does not say is said by nobody else.
"""
