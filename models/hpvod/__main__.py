"""`python -m hpvod` is the command `hpvod`."""

from hpvod.cli import app

app(prog_name="hpvod")
