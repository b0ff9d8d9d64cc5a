"""One file a subject; each has `measure(stage) -> list[Row]`."""
