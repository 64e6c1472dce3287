"""JSON Schemas of what people write, and of what ftreg prints and stores.

`ftreg.jobs.schemas.catalogue` makes them; the other modules declare what is printed, for the
commands too, which import no more than they print.
"""
