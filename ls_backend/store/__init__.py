"""Sessions beyond the process: what is kept of them (`records`), where (`database`, `tables`) and how (`codec`)."""
