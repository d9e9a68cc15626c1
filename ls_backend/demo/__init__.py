"""`ivos demo`: the real Label Studio and the backend side by side on one machine, with one command."""
