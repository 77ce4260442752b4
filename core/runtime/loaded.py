"""What the garbage collector is to know of a process: what it has loaded, and how many objects it will make."""

import atexit
import gc


def keep_loaded() -> None:
    """Keep what is loaded by now for good, out of the garbage collector's sight. For a process's entry point alone.

    Libraries and routes are some hundred thousand objects that live as long as the process. Without this all of them
    are looked through again and again under load, and each time everything waits 40 to 70 ms.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # libraries in C complain of what they find alive at the very end


def expect_many_objects() -> None:
    """Have the collector look less often. For an entry point alone.

    Events and views hold no cycles: reference counts free them. Looking for cycles after every 700 new objects, as
    Python does by itself, takes a quarter of the time of who folds.
    """
    gc.set_threshold(50_000, 20, 50)
