"""The kinds of tools that templates call or models are given, and the runner of their calls."""
