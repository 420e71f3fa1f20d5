"""The report of a run: one file to look at, with the tables behind every figure.

Read at the edge (`server.report.files`), put together without files or a clock
(`server.report.story`), drawn and written at the other edge (`server.report.page`). Nothing here
imports torch, whose import alone would take as long as the rest.
"""
