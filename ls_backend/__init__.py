"""The only code that knows Label Studio: requests in, pre-annotations out."""
