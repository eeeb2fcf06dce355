"""Telling people about data sets and runs."""
