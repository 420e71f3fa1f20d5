"""The model file: what a model-risk function needs to know of a run's model, in one place.

Read at the edge (`server.model_file.records`), put together without files or a clock
(`server.model_file.story`), written at the other edge (`server.model_file.page`): Markdown for
people, JSON for machines, a page for validators. `server.model_file.catalogue` says what every
such file holds; what nobody recorded stands there as `Missing`, with what would tell it. Nothing
here imports torch.
"""
