.PHONY: demo test lock
