"""Object stores, through fsspec: what lies below a URL, as a folder of this machine's cache.

    url.py       what a URL may hold, and the file system that reads it
    store.py     reading ranges of files, with patience
    cache.py     the cache's folder, its limit, whose files make room
    mirror.py    a folder of the cache that stands for one in a store: files come when asked for

What is in the folders is the callers' matter: `fasttail.shards.reader` knows what must be there
and says whether a file that came is what was written.
"""

from fasttail.stores.mirror import mirrored, mirrored_by, place
from fasttail.stores.url import folder_or_url, is_url

__all__ = ["folder_or_url", "is_url", "mirrored", "mirrored_by", "place"]
