"""The building blocks of the network; each file is one layer and knows no scheduler."""
