"""router/planners"""
