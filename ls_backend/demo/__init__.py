"""`ivos demo`: starts the real Label Studio and the backend on one machine, with a project and a clip.

Uses `ls_backend.label_studio` and `ls_backend.serving`; nothing else imports it but tests.
"""
