"""deployments/nodes"""
