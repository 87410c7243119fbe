"""How a node is chosen and how a request becomes a plan, and how both are trained and measured."""
