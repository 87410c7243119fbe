"""Where state is kept; see `graph.stores.base`."""
