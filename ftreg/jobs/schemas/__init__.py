"""JSON Schemas of what people write, and of what ftreg prints and stores.

`ftreg.jobs.schemas.catalogue` makes them from the classes that the code reads and writes with.
"""
