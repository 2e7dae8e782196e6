"""Parts of networks, and a loss, that several papers or baselines share unchanged."""

LOSSES = {"cross_entropy": "merlib.layers.cross_entropy:CrossEntropy"}
