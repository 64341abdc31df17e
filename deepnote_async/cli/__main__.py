"""``python -m deepnote_async.cli``: the program, where its script is not on the path."""

from . import main

main()
