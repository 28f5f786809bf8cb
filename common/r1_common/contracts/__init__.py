"""Data that one component writes and another reads: one type and one parser for each document."""
