"""How a model learns: the loop, its schedule and optimizers, and the state from which it goes on."""
