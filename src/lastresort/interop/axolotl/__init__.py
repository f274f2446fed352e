"""Axolotl's configuration and its data sets, read and written."""
