"""The optimizer and the learning rate of every step."""
