"""router/scorers"""
