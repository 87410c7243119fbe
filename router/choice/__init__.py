"""Which of many models answers a request right, and at what cost: learned from correctness data."""
