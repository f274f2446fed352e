"""Documents for retrieval: read, cut into chunks, embedded, stored and searched.

reading.read_documents -> store.create_store or open_store -> update.update -> search.search. search.measure scores the search.
"""
