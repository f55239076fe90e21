"""Tables of published and measured numbers as Markdown, LaTeX, CSV and one HTML page.

:mod:`evidence` finds what was measured, :mod:`build` sets it beside what was published as the
:mod:`views`, and the other modules write those down.
"""
