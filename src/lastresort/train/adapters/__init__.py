"""Adapters: attached, saved, scaled and merged; and a merged model as GGUF."""
