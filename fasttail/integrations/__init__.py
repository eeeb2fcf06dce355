"""The plan's order in other people's loaders, each in a module that needs its package.

ffcv.py   `Order`: for a stock FFCV Loader
dali.py   `source`: for external_source of a DALI pipeline
"""
