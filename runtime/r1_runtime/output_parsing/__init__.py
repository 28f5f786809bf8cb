"""Incremental parsers of output text: reasoning and tool calls. The chunking has no effect."""
