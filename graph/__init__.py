"""What exists and how a plan runs: types, node specs, the graph, plans, stores. No Ray, no web framework."""
