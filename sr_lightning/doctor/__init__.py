"""What is wrong with these images? ``sr-lightning doctor``.

A package of its own: it reads image files, which ``metrics`` never does, it measures, which
``data`` never does, and it needs no network, which is what ``inference`` is about.
"""
