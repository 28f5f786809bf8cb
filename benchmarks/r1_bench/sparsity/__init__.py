"""What each sparse or quantised technique costs and saves: `make bench-sparsity`."""
