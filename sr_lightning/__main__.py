"""``python -m sr_lightning`` is the same as the ``sr-lightning`` command."""

from sr_lightning.cli import main

if __name__ == "__main__":
    main()
