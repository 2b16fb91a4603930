"""The demo corpus: 30 invented people, 14 dated notes each, with the titles they gave them.

Written for this package; CC0.
"""
