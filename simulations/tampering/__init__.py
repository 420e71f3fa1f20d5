"""Random edits of what is kept as evidence, and whether its own check finds each of them.

A target is an artefact in bytes: its honest files, another's of its kind to splice from, and the
check that says what is wrong. Manifests and whatever comes later join `edits.TARGETS` the same way,
in a module of their own that `trials` imports.
"""
