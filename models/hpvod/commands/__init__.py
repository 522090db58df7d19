"""The subcommands of `hpvod` that work on data sets, one a file."""
