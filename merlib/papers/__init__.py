"""One package a paper, with the paper's id: its network and the parts of it, its loss, its extraction settings."""
