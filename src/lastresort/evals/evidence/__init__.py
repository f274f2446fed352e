"""Evidence: every statistical decision of the program, as pure functions.

Loads neither torch nor scipy; scipy is imported by the function that needs it.
"""
