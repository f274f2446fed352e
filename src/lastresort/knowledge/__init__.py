"""Documents a system may look things up in: read, cut into chunks, embedded, stored and searched.

reading.read_documents -> store.create_store or open_store -> update.update -> search.search; evaluation.measure says how well.
"""
