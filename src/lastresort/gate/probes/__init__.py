"""Probes of the gate: does the tuned model give in where its base did not, and does its format leak?"""
