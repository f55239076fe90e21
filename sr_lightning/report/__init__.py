"""Tables of published and measured numbers as Markdown, LaTeX, CSV and one HTML page.

:mod:`measurements` finds what was measured, :mod:`build` sets it beside what was published as the
``views``, :mod:`writers`, :mod:`html` and :mod:`figures` write those down, and :mod:`frame` gives
all numbers as one table for pandas.
"""

from importlib.util import find_spec

from sr_lightning.errors import UserError

if _missing := [name for name in ("pandas", "matplotlib", "jinja2") if find_spec(name) is None]:
    raise UserError(
        f'The report needs {" and ".join(_missing)}: pip install "sr-lightning[report]".'
    )
