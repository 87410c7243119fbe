"""The HTTP surface: OpenAI's and Modelyard's own."""
