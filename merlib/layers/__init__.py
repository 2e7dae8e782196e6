"""Parts of networks, and the loss, that two papers share unchanged."""

LOSSES = {"cross_entropy": "merlib.layers.cross_entropy:CrossEntropy"}
